"""What an order may ask for: a region that is served, and options as its plan has them."""

import uuid
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from addon.provider.credentials import find_identity
from addon.provider.models import Resource
from billing.models import Plan
from billing.option_schemas import InvalidSchema, check_schema
from billing.plans import sync_plans
from billing.plans_file import InvalidPlans, read_plans
from tests.addon.provider.test_partner_api import PATH, call, provision_body

pytestmark = pytest.mark.usefixtures("plans")


@pytest.fixture(autouse=True)
def _two_urls(settings: Settings) -> None:
    settings.INFERENCE_URL = "https://us.annex.example"
    settings.INFERENCE_URL_EU = "https://eu.annex.example"


class TestRegions:
    @pytest.mark.parametrize(
        ("region", "url"),
        [
            ("amazon-web-services::us-east-1", "https://us.annex.example"),
            ("us", "https://us.annex.example"),
            (None, "https://us.annex.example"),
            ("amazon-web-services::eu-west-1", "https://eu.annex.example"),
            ("eu", "https://eu.annex.example"),
        ],
    )
    def test_a_region_has_its_url(self, region: str | None, url: str) -> None:
        body = provision_body(region=region)
        answer = call("POST", PATH, body).json()
        assert answer["config"]["INFERENCE_URL"] == url
        assert f"POST {url}/v1/embeddings" in answer["message"]
        identity = find_identity(answer["config"]["INFERENCE_KEY"])
        assert identity is not None
        assert identity.region == url[8:10]
        changed = call("PUT", f"{PATH}/{body['uuid']}", {"plan": "dedicated"}).json()
        assert changed["config"]["INFERENCE_URL"] == url
        attachment = f"{PATH}/{body['uuid']}/attachments/{uuid.uuid4()}"
        attached = call("PUT", attachment, {"name": "SEARCH", "app": "shop"}).json()
        assert attached["config"]["INFERENCE_URL"] == url

    @pytest.mark.parametrize(
        ("served", "region"),
        [
            (["us", "eu"], "amazon-web-services::ap-southeast-2"),
            (["us", "eu"], "moon"),
            (["us"], "amazon-web-services::eu-west-1"),
            (["us"], "eu"),
        ],
    )
    def test_another_is_refused_with_those_that_there_are(
        self, settings: Settings, served: list[str], region: str
    ) -> None:
        settings.REGIONS = served
        answer = call("POST", PATH, provision_body(region=region))
        assert (answer.status_code, answer.json()["id"]) == (422, "invalid_params")
        message = answer.json()["message"]
        assert f"no heroku-inference in the region {region!r}" in message
        assert "us (amazon-web-services::us-east-1)" in message
        assert ("eu (amazon-web-services::eu-west-1)" in message) == ("eu" in served)
        assert not Resource.objects.exists()

    def test_where_only_eu_is_served_an_order_without_a_region_is_in_eu(
        self, settings: Settings
    ) -> None:
        settings.REGIONS = ["eu"]
        call("POST", PATH, provision_body(region=None))
        assert Resource.objects.get().region == "eu"


class TestOptions:
    def test_the_option_model_is_what_model_id_says(self) -> None:
        body = provision_body(options={"model": "bge-m3"})
        answer = call("POST", PATH, body).json()
        assert answer["config"]["INFERENCE_MODEL_ID"] == "bge-m3"
        assert "for the model bge-m3, other models" in answer["message"]
        path = f"{PATH}/{body['uuid']}"
        for plan, model_id in [
            ("dedicated", "bge-m3"),  # has the option too
            ("cohere-embed-v4", "cohere-embed-v4"),  # serves one model
            ("standard", "bge-m3"),
        ]:
            changed = call("PUT", path, {"plan": plan}).json()
            assert changed["config"]["INFERENCE_MODEL_ID"] == model_id

    def test_a_wrong_value_is_refused_with_those_that_are_allowed(self) -> None:
        answer = call("POST", PATH, provision_body(options={"model": "gpt-9"}))
        assert answer.status_code == 422
        message = answer.json()["message"]
        assert message.startswith("option model must be one of: all-minilm-l6-v2, ")
        assert message.endswith(", not 'gpt-9'")
        assert not Resource.objects.exists()

    def test_unknown_options_are_ignored(self) -> None:
        assert call("POST", PATH, provision_body(options={"fork": "true"})).status_code == 201

    @pytest.mark.parametrize(
        ("schema", "options", "message"),
        [
            (
                {"properties": {"size": {"pattern": "^[0-9]+$"}}},
                {"size": "big"},
                "option size must be text that matches ^[0-9]+$, not 'big'",
            ),
            (
                {"properties": {"name": {"maxLength": 3}}},
                {"name": "abcd"},
                "option name must be at most 3 characters long, not 'abcd'",
            ),
            (
                {"properties": {"on": {"const": "true"}}},
                {"on": "false"},
                "option on must be valid by the schema's const 'true', not 'false'",
            ),
            (
                {"properties": {"size": {}}, "required": ["size"]},
                {},
                "options: 'size' is a required property. The plan standard has these options: size",
            ),
            (
                {"additionalProperties": False},
                {"fork": "x"},
                "options: Additional properties are not allowed ('fork' was unexpected). The plan "
                "standard has these options: none",
            ),
        ],
    )
    def test_a_plan_may_have_any_schema(
        self, schema: dict[str, object], options: dict[str, str], message: str
    ) -> None:
        check_schema(schema)
        Plan.objects.filter(slug="standard").update(options_schema=schema)
        answer = call("POST", PATH, provision_body(options=options))
        assert (answer.status_code, answer.json()["message"]) == (422, message)

    def test_an_option_that_the_plan_does_not_have_does_nothing(self) -> None:
        Plan.objects.filter(slug="standard").update(options_schema={})
        config = call("POST", PATH, provision_body(options={"model": "bge-m3"})).json()["config"]
        assert config["INFERENCE_MODEL_ID"] == "all-minilm-l6-v2"

    def test_the_shipped_schemas_have_the_models_of_the_catalogue(self) -> None:
        import tomllib

        catalogue = tomllib.loads(Path(django_settings.MODEL_CATALOGUE).read_text())
        models = sorted(model["id"] for model in catalogue["model"])
        for plan in Plan.objects.filter(serves_all_models=True):
            assert plan.options_schema == {"properties": {"model": {"enum": models}}}


WRONG_SCHEMAS = [
    ([], "must be an object"),
    ({"type": "array"}, 'must have the type "object"'),
    ({"properties": {"model": {"enum": "x"}}}, "properties.model.enum"),
    ({"properties": {"model": {"type": "word"}}}, "properties.model.type"),
    ({"properties": {"model": {"pattern": "("}}}, "properties.model.pattern"),
    ({"properties": {"model": {"$ref": "https://x.example/s"}}}, "https://x.example/s"),
    ({"allOf": [{"$ref": "#/$defs/nowhere"}]}, "#/$defs/nowhere"),
]


class TestSchemas:
    @pytest.mark.parametrize(("schema", "words"), WRONG_SCHEMAS)
    def test_a_wrong_one_is_refused(self, schema: object, words: str) -> None:
        with pytest.raises(InvalidSchema) as raised:
            check_schema(schema)
        assert words in str(raised.value)

    @pytest.mark.parametrize(("schema", "words"), WRONG_SCHEMAS[1:])
    def test_the_model_refuses_it_too(self, schema: object, words: str) -> None:
        plan = Plan.objects.get(slug="standard")
        plan.options_schema = schema
        with pytest.raises(ValidationError) as raised:
            plan.clean_fields()
        assert words in str(raised.value)

    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ('options_schema = { type = "array" }', 'options_schema must have the type "object"'),
            (
                'model_id = "m"\nserves_all_models = false\n'
                "options_schema = { properties = { model = {} } }",
                "options_schema has the option model, and the plan serves one model only",
            ),
        ],
    )
    def test_plans_toml_with_a_wrong_one_names_the_plan(
        self, tmp_path: Path, line: str, words: str
    ) -> None:
        file = tmp_path / "plans.toml"
        file.write_text(
            f"""[[plan]]
service_name = "s"
slug = "one"
human_name = "One"
requests_per_minute = 1
tokens_per_minute = 2
{line}
[[plan.price]]
active_from = 2026-01-01T00:00:00Z
tokens = {{ "*" = 1 }}
"""
        )
        with pytest.raises(InvalidPlans, match="plan s:one: ") as raised:
            read_plans(file)
        assert words in str(raised.value)


class TestTheAdmin:
    @pytest.fixture
    def operator(self) -> Client:
        client = Client()
        client.force_login(User.objects.create_superuser("operator"))
        return client

    def url(self, slug: str) -> str:
        return reverse("admin:billing_plan_change", args=[Plan.objects.get(slug=slug).pk])

    def test_a_schema_is_edited_and_nothing_else(self, operator: Client) -> None:
        form = {"options_schema": '{"properties": {"size": {"enum": ["s"]}}}', "slug": "other"}
        assert operator.post(self.url("bge-m3"), form).status_code == 302
        plan = Plan.objects.get(slug="bge-m3")
        assert plan.options_schema == {"properties": {"size": {"enum": ["s"]}}}
        sync_plans()  # plans.toml has none for this plan
        plan.refresh_from_db()
        assert "size" in plan.options_schema["properties"]

    @pytest.mark.parametrize("schema", ['{"type": "word"}', "[1]", "{"])
    def test_a_wrong_schema_is_refused(self, operator: Client, schema: str) -> None:
        answer = operator.post(self.url("standard"), {"options_schema": schema})
        assert answer.status_code == 200
        assert "errorlist" in answer.content.decode()
        assert "model" in Plan.objects.get(slug="standard").options_schema["properties"]

    def test_a_plan_of_one_model_has_no_option_model(self, operator: Client) -> None:
        form = {"options_schema": '{"properties": {"model": {}}}'}
        answer = operator.post(self.url("bge-m3"), form)
        assert answer.status_code == 200
        assert "serves one model only" in answer.content.decode()

    def test_plans_are_neither_added_nor_deleted(self, operator: Client) -> None:
        assert operator.get(reverse("admin:billing_plan_add")).status_code == 403
        assert operator.get(self.url("standard").replace("change", "delete")).status_code == 403
