"""The whole story of an add-on on two deployments. tests/chaos/test_addons.py kills processes."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.addon.two_deployments import OTHER_PLAN, Both, running_both, wait_for

pytestmark = pytest.mark.django_db  # whose tables are copied
HASTE = 0.2


@pytest.fixture(scope="module")
def both(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    with running_both(tmp_path_factory.mktemp("deployments"), django_db_blocker, HASTE) as pair:
        yield pair


def test_the_whole_story(both: Both) -> None:
    ordered = both.order("my-embedder", "EMBEDDING")
    assert ordered.status_code == 201, ordered.text
    assert ordered.json()["provision_message"].endswith("in the background")
    wait_for(lambda: both.state("my-embedder") == "provisioned", "it was not provisioned")
    config = both.config()
    assert config["EMBEDDING_MODEL_ID"] == "all-minilm-l6-v2"
    assert both.accepts(config["EMBEDDING_KEY"])
    assert both.releases() == ["Initial release", "Attach EMBEDDING (my-embedder)"]
    path = "/apps/shop/addons/my-embedder"
    assert both.platform.call("PATCH", path, {"plan": OTHER_PLAN}).status_code == 200
    wait_for(
        lambda: both.platform.call("GET", path).json()["plan"]["name"] == OTHER_PLAN,
        "its plan was not changed",
    )
    assert both.config()["EMBEDDING_MODEL_ID"] == "cohere-embed-multilingual"
    assert both.config()["EMBEDDING_KEY"] == config["EMBEDDING_KEY"]
    assert both.platform.call("DELETE", path).json()["state"] == "deprovisioning"
    wait_for(lambda: both.state("my-embedder") == "404", "it was not removed")
    wait_for(lambda: not both.accepts(config["EMBEDDING_KEY"]), "its key still works")
    both.wait_for_agreement()
