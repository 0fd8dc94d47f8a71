"""The suite against a small provider: without a fault it finds none, and each fault that it has."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from addon.conformance.checks import CHECKS
from addon.conformance.command_line import GROUPS, main
from tests.addon.conformance.providers import CLIENT_SECRET, Fault, Provider, running

ROOT = Path(__file__).resolve().parents[3]
# What finds each fault. Others may fail because of it, too.
FOUND_BY = {
    Fault.IGNORES_PASSWORD: "authentication.wrong-password",
    Fault.IGNORES_USER: "authentication.wrong-user",
    Fault.LOOKS_FIRST: "authentication.before-existence",
    Fault.PARSES_FIRST: "authentication.before-content",
    Fault.ACTS_FIRST: "authentication.changes-nothing",
    Fault.NO_ID: "provision.id",
    Fault.UNDECLARED_CONFIG: "provision.config-declared",
    Fault.CONFIG_OF_NUMBERS: "provision.config-strings",
    Fault.URL_WITHOUT_HOST: "provision.config-urls",
    Fault.NO_CONFIG: "provision.config",
    Fault.NEW_KEY_ON_REPEAT: "repeats.same",
    Fault.NEW_ID_ON_REPEAT: "repeats.same",
    Fault.TAKES_OTHER_CONTENT: "repeats.other-content",
    Fault.CHANGES_WHAT_IT_REFUSES: "repeats.unharmed",
    Fault.INSISTS_ON_NAME: "tolerance.no-grant",
    Fault.INSISTS_ON_ACCEPT: "tolerance.plain-accept",
    Fault.REFUSES_UNKNOWN_FIELDS: "tolerance.unknown-fields",
    Fault.UUID_OF_THE_BODY: "tolerance.plan-change-fields",
    Fault.REFUSES_SAME_PLAN: "plan-change.same-plan",
    Fault.ID_CHANGES: "plan-change.answer",
    Fault.TAKES_ANY_PLAN: "errors.unknown-plan",
    Fault.RAW_ERRORS: "errors.unknown-plan",
    Fault.CRASHES_ON_JSON: "errors.malformed-json",
    Fault.CRASHES_ON_ODD_IDS: "errors.odd-ids",
    Fault.NO_TOMBSTONES: "deprovision.provision-after",
    Fault.DELETES_ALL: "deprovision.others-stay",
    Fault.CANNOT_DELETE: "deprovision.status",
    Fault.RACES: "concurrency.same-uuid",
    Fault.SHARED_CREDENTIALS: "concurrency.different-uuids",
    Fault.HTML_ERRORS: "answers.json",
    Fault.REDIRECTS: "answers.no-redirect",
    Fault.HANGS: "answers.in-time",
    Fault.CONFIG_IN_202: "async.accepted",
    Fault.NEVER_EXCHANGES: "async.grant",
    Fault.NO_CLIENT_SECRET: "async.grant",
    Fault.RELEASES_FIRST: "async.order",
    Fault.TOKEN_OF_ANOTHER: "async.authorised",
    Fault.UNDECLARED_CALLBACK: "async.config",
    Fault.NEVER_FINISHES: "async.finished",
    Fault.CONFIG_CHANGES: "async.repeat",
    Fault.BUSY_DELETE: "async.deprovision-early",
    Fault.ANY_TOKEN: "sso.bad-token",
    Fault.PREFIX_IS_ENOUGH: "sso.truncated-token",
    Fault.NO_TOKEN: "sso.no-token",
    Fault.OLD_LOGINS: "sso.old",
    Fault.FUTURE_LOGINS: "sso.future",
    Fault.REPLAYS: "sso.replay",
    Fault.ANY_USER: "sso.other-user",
    Fault.ANY_RESOURCE: "sso.other-resource",
    Fault.LOGS_IN_TO_NOTHING: "sso.deprovisioned",
    Fault.CRASHES_ON_TIME: "sso.no-number",
}
# The suite waits in vain for what these withhold: not for long.
WITHHOLDING = {
    Fault.GIVES_UP,
    Fault.NEVER_EXCHANGES,
    Fault.NEVER_FINISHES,
    Fault.NO_CLIENT_SECRET,
    Fault.UNDECLARED_CALLBACK,
}
IMPATIENT = ("--callbacks-within", "1")
# Two providers with several faults each, which do not hide each other.
CARELESS = (
    Fault.IGNORES_USER,
    Fault.LOOKS_FIRST,
    Fault.UNDECLARED_CONFIG,
    Fault.CONFIG_OF_NUMBERS,
    Fault.URL_WITHOUT_HOST,
    Fault.TAKES_OTHER_CONTENT,
    Fault.INSISTS_ON_NAME,
    Fault.ID_CHANGES,
    Fault.RAW_ERRORS,
    Fault.CRASHES_ON_JSON,
    Fault.NO_TOMBSTONES,
    Fault.RACES,
    Fault.HTML_ERRORS,
)
HASTY = (
    Fault.NEW_KEY_ON_REPEAT,
    Fault.REFUSES_SAME_PLAN,
    Fault.INSISTS_ON_ACCEPT,
    Fault.CONFIG_IN_202,
    Fault.RELEASES_FIRST,
    Fault.TOKEN_OF_ANOTHER,
    Fault.BUSY_DELETE,
    Fault.PREFIX_IS_ENOUGH,
    Fault.NO_TOKEN,
    Fault.OLD_LOGINS,
    Fault.FUTURE_LOGINS,
    Fault.REPLAYS,
    Fault.CRASHES_ON_TIME,
)


class Suite:
    """Runs the command in this process; what it printed last is `document`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.document: dict[str, Any] = {}

    def run(self, manifest: Mapping[str, Any], *more: str) -> int:
        path = self.folder / "addon-manifest.json"
        path.write_text(json.dumps(manifest))
        here = ("--listen", "127.0.0.1:0", "--client-secret", CLIENT_SECRET)
        patient = ("--timeout", "10", "--callbacks-within", "10")
        status = main([str(path), "--json", *here, *patient, *more])
        out = self.capsys.readouterr().out
        self.document = json.loads(out) if out.startswith("{") else {}
        return status

    def found(self, *statuses: str) -> dict[str, str]:
        wanted = statuses or ("failed",)
        return {
            check["id"]: check["detail"]
            for check in self.document["checks"]
            if check["status"] in wanted
        }


@pytest.fixture
def suite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Suite:
    return Suite(tmp_path, capsys)


def test_a_correct_provider_passes_every_check_and_is_left_as_it_was(suite: Suite) -> None:
    with running() as provider:
        assert suite.run(provider.manifest()) == 0
        assert provider.live() == []
        assert len(provider.rows) > 20
    # How fast it is depends on what else the machine does.
    assert {*suite.found("failed", "warned")} <= {"answers.fast"}
    skipped = {"attachments.config", "attachments.detach", "attachments.unknown"}
    skipped |= {"manifest.https", "provision.log-drain-url"}
    assert set(suite.found("skipped")) == skipped
    assert len(suite.document["checks"]) == len(CHECKS)


@pytest.mark.parametrize("fault", FOUND_BY, ids=lambda fault: fault.name.lower())
def test_every_planted_fault_is_found(fault: Fault, suite: Suite) -> None:
    check = FOUND_BY[fault]
    groups = [check.partition(".")[0]]
    if groups == ["answers"]:
        groups += ["repeats", "plan-change"]
    waits = ["--timeout", "0.3"] if fault == Fault.HANGS else []
    waits += IMPATIENT if fault in WITHHOLDING else []
    with running([fault]) as provider:
        only = [argument for group in groups for argument in ("--only", group)]
        assert suite.run(provider.manifest(), *only, *waits) == 1
    assert check in suite.found()
    assert suite.found()[check]


def test_an_add_on_of_eu_alone_is_a_warning(suite: Suite) -> None:
    with running() as provider:
        manifest = provider.manifest()
        manifest["api"]["regions"] = ["eu"]
        assert suite.run(manifest, "--only", "manifest") == 0
    assert set(suite.found("warned")) == {"manifest.regions"}


def test_a_callback_that_is_not_repeated_is_a_warning(suite: Suite) -> None:
    """The contract gives it a day, and the suite does not wait that long."""
    with running([Fault.GIVES_UP]) as provider:
        assert suite.run(provider.manifest(), "--only", "async", *IMPATIENT) == 0
    assert set(suite.found("warned")) == {"async.retry"}


def test_every_fault_has_a_check() -> None:
    assert {*FOUND_BY, Fault.GIVES_UP} == {*Fault}
    assert {*FOUND_BY.values()} <= {check.id for check in CHECKS}


@pytest.mark.parametrize("faults", [CARELESS, HASTY], ids=["careless", "hasty"])
def test_of_a_provider_with_many_faults_every_one_is_found(
    faults: Sequence[Fault], suite: Suite
) -> None:
    with running(faults) as provider:
        assert suite.run(provider.manifest(is_async=faults is HASTY)) == 1
    found = suite.found()
    assert {fault for fault in faults if FOUND_BY[fault] not in found} == set()


def test_what_does_not_apply_is_skipped_with_the_reason(suite: Suite) -> None:
    with running() as provider:
        manifest = provider.manifest(is_async=False)
        del manifest["api"]["sso_salt"], manifest["api"]["production"]["sso_url"]
        manifest["api"]["annex"]["plans"].pop()
        assert suite.run(manifest) == 0
    skipped = suite.found("skipped")
    groups = {name.partition(".")[0] for name in skipped}
    assert {"sso", "async", "attachments"} <= groups
    assert "sso_salt" in skipped["sso.login"]
    assert "--async-plan" in skipped["async.accepted"]
    assert "--change-to" in skipped["plan-change.status"]


def test_a_provider_that_is_not_there_fails_once_and_the_rest_is_skipped(suite: Suite) -> None:
    with running() as provider:
        manifest = provider.manifest()
    assert suite.run(manifest, "--only", "provision", "--only", "repeats") == 1
    assert set(suite.found()) == {"provision.status", "cleanup.nothing-left"}
    assert "ConnectError" in suite.found()["provision.status"]
    assert "nothing could be provisioned" in suite.found("skipped")["repeats.same"]


def test_a_provider_that_hangs_is_not_waited_for_at_every_check(suite: Suite) -> None:
    with running([Fault.HANGS]) as provider:
        only = ("--only", "provision", "--only", "plan-change", "--only", "answers")
        assert suite.run(provider.manifest(), *only, "--timeout", "0.2") == 1
    assert "not within 0.2 s" in suite.found()["plan-change.status"]
    assert "3 requests in a row" in suite.found("skipped")["plan-change.no-plan"]
    assert "answers.in-time" in suite.found()


def test_what_cannot_be_removed_is_named(suite: Suite) -> None:
    with running([Fault.CANNOT_DELETE]) as provider:
        assert suite.run(provider.manifest(), "--only", "provision") == 1
        (left,) = provider.rows
    assert suite.document["left_behind"] == [left]
    assert left in suite.found()["cleanup.nothing-left"]


def test_no_secret_is_printed(suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    with running([*CARELESS, *HASTY]) as provider:
        manifest = provider.manifest()
        path = suite.folder / "addon-manifest.json"
        path.write_text(json.dumps(manifest))
        main([str(path), "--only", "provision", "--only", "repeats", "--only", "sso"])
        printed = "".join(capsys.readouterr())
        keys = {row.key for row in provider.rows.values()}
    api = manifest["api"]
    assert "FAIL" in printed
    for secret in (api["password"], api["sso_salt"], CLIENT_SECRET, *keys):
        assert secret not in printed


class TestTheCommand:
    def test_it_prints_one_line_a_check_with_the_reason(
        self, suite: Suite, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with running([Fault.NO_ID]) as provider:
            path = suite.folder / "addon-manifest.json"
            path.write_text(json.dumps(provider.manifest()))
            assert main([str(path), "--only", "provision"]) == 1
        lines = capsys.readouterr().out.splitlines()
        (line,) = [line for line in lines if "provision.id" in line]
        check = next(check for check in CHECKS if check.id == "provision.id")
        assert line.startswith("  FAIL provision.id: ")
        assert check.why in line
        assert "id is absent or null" in line
        assert re.fullmatch(r"\d+ passed, \d+ warned, 1 failed, \d+ skipped", lines[-1])

    def test_it_lists_the_checks_without_a_manifest(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["--list", "--only", "sso"]) == 0
        listed = capsys.readouterr().out.splitlines()
        ids = [line.partition(":")[0] for line in listed]
        wanted = [check.id for check in CHECKS if check.group in {"sso", "cleanup"}]
        assert ids == wanted

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["nosuch.json"],
            ["--only", "nosuch", "--list"],
            ["{folder}/addon-manifest.json"],
        ],
    )
    def test_wrong_usage_ends_with_2_and_says_why(
        self, arguments: list[str], suite: Suite, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (suite.folder / "addon-manifest.json").write_text("[]")
        given = [argument.format(folder=suite.folder) for argument in arguments]
        assert main(given) == 2
        assert capsys.readouterr().err

    @pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf", "soon"])
    @pytest.mark.parametrize("option", ["--timeout", "--callbacks-within"])
    def test_a_time_limit_is_a_number_over_0(
        self, option: str, seconds: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            main(["addon-manifest.json", option, seconds])
        assert f"{option}: must be a number over 0" in capsys.readouterr().err

    def test_a_manifest_without_test_urls_cannot_be_tested_by_them(self, suite: Suite) -> None:
        with running() as provider:
            manifest = provider.manifest()
        assert suite.run(manifest, "--test") == 1
        assert "api.test" in suite.found()["manifest.valid"]

    def test_an_invalid_manifest_is_the_first_check(self, suite: Suite) -> None:
        with running() as provider:
            manifest = provider.manifest()
        manifest["api"]["regions"] = ["moon"]
        assert suite.run(manifest) == 1
        assert "api.regions" in suite.found()["manifest.valid"]

    def test_other_urls_than_the_production_ones_are_tested(self, suite: Suite) -> None:
        with running() as provider:
            manifest = provider.manifest()
            urls = manifest["api"]["production"]
            manifest["api"]["production"] = {
                "base_url": "https://127.0.0.1:9", "sso_url": "https://127.0.0.1:9/sso",
            }  # fmt: skip
            only = ("--only", "provision", "--only", "sso.login")
            given = ("--base-url", urls["base_url"], "--sso-url", urls["sso_url"])
            assert suite.run(manifest, *only, *given) == 0
            assert suite.run({**manifest, "api": {**manifest["api"], "test": urls}}, "--test") == 0
            assert suite.found("passed")["manifest.https"] == ""

    def test_options_and_plans_are_sent(self, suite: Suite) -> None:
        with running([Fault.TAKES_ANY_PLAN]) as provider:
            only = ("--only", "plan-change.status", "--option", "a=b=c")
            suite.run(provider.manifest(), *only, "--plan", "mine", "--change-to", "yours")
            assert [row.plan for row in provider.rows.values()] == ["mine"]
        assert suite.document["change_to"] == "yours"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_behind_when_it_is_interrupted(
    number: signal.Signals, tmp_path: Path
) -> None:
    """As a process of its own, while the provider keeps it waiting."""
    # Tests that a shell started in the background ignore it, as would their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with running([Fault.HANGS]) as provider:
        path = tmp_path / "addon-manifest.json"
        path.write_text(json.dumps(provider.manifest()))
        command = [sys.executable, "-m", "addon.conformance", str(path), "--only", "plan-change"]
        with subprocess.Popen(
            command, cwd=ROOT, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process:  # fmt: skip
            _wait_for_a_row(provider)
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "gone again" in said
        assert provider.rows
        assert provider.live() == []


def _wait_for_a_row(provider: Provider) -> None:
    for _ in range(3000):
        if provider.rows or provider.ended.wait(0.01):
            return
    raise AssertionError("nothing was provisioned")


def test_the_page_lists_every_check() -> None:
    page = (ROOT / "docs" / "conformance.md").read_text()
    listed = re.findall(r"^\| `([a-z-]+\.[a-z0-9-]+)` \| (.*) \| (.*) \|$", page, re.MULTILINE)
    assert listed == [(check.id, check.title, check.why) for check in CHECKS]
    for group in GROUPS:
        assert f"### {group}" in page
