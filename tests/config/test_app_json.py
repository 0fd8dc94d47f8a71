"""app.json, the Procfile and docs/configuration.md say what settings and `make up` read."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.management import get_commands

from config.processes import read_procfile

ROOT = Path(__file__).resolve().parents[2]
NOT_ANNEXS_OWN = {"PATH"}  # what every program reads needs no row of a table


def variables_of_settings() -> set[str]:
    """The names that settings.py reads with `env.TYPE("NAME", …)`."""
    tree = ast.parse((ROOT / "config" / "settings.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    return {
        str(ast.literal_eval(call.args[0]))
        for call in calls
        if isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "env"
        and call.func.attr != "read_env"
    }


def variables_of_procfile() -> set[str]:
    return set(re.findall(r"\$\{?([A-Z_]+)", (ROOT / "Procfile").read_text()))


def variables_of_up() -> set[str]:
    """The names that up.py reads: `environ["NAME"]` and `environ.get("NAME", …)`."""
    tree = ast.parse((ROOT / "config" / "up.py").read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=mapping, slice=ast.Constant(value=str(name)), ctx=ast.Load()):
                pass
            case ast.Call(
                func=ast.Attribute(value=mapping, attr="get"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                pass
            case _:
                continue
        if ast.unparse(mapping) in {"os.environ", "environ"}:
            names.add(name)
    return names - NOT_ANNEXS_OWN


def variables_of_the_table() -> set[str]:
    """The first column of the table of docs/configuration.md."""
    text = (ROOT / "docs" / "configuration.md").read_text()
    return set(re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE))


@pytest.fixture
def app_json() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / "app.json").read_text())
    return loaded


def test_every_variable_that_is_read_is_in_app_json_and_no_other(app_json: dict[str, Any]) -> None:
    assert "SECRET_KEY" in variables_of_settings()
    assert set(app_json["env"]) == variables_of_settings() | variables_of_procfile()


def test_every_variable_is_described_in_a_sentence(app_json: dict[str, Any]) -> None:
    for name, entry in app_json["env"].items():
        assert entry["description"].endswith("."), name


def test_every_variable_that_is_read_is_documented_and_no_other() -> None:
    assert {"ACCOUNT_EMAIL", "OPERATOR_PASSWORD"} <= variables_of_up()
    read = variables_of_settings() | variables_of_procfile() | variables_of_up()
    assert variables_of_the_table() == read


def test_secrets_are_generated(app_json: dict[str, Any]) -> None:
    passwords = ("PROVIDER_PASSWORD", "SSO_SALT", "PROVIDER_WEBHOOK_SECRET")
    for name in ("SECRET_KEY", "ENCRYPTION_KEYS", "INVOICE_SIGNING_KEY", *passwords):
        assert app_json["env"][name]["generator"] == "secret"


def test_the_formation_names_the_procfiles_process_types(app_json: dict[str, Any]) -> None:
    procfile = read_procfile(ROOT / "Procfile")
    assert list(procfile) == ["release", "web", "worker", "gpu", "beat"]
    assert set(app_json["formation"]) == set(procfile) - {"release"}


def test_the_procfiles_management_commands_exist() -> None:
    named = set(re.findall(r"manage\.py (\w+)", (ROOT / "Procfile").read_text()))
    assert named
    assert named <= set(get_commands())
