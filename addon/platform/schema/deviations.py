"""Where Heroku's schema is not what Annex answers or takes, each with its reason.

docs/platform-api.md lists them; tests hold that list against this one, and each of these against
real answers: what is not needed any more fails.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Deviation:
    """`at` is a path in the schema, in which a link is called by its title.

    `value` takes the place of what is there; None removes it.
    """

    at: str
    value: Any
    reason: str


USER = {
    "anyOf": [
        {"$ref": "#/definitions/account/definitions/identity"},
        {
            "type": ["object"],
            "properties": {
                "email": {"$ref": "#/definitions/account/definitions/email"},
                "id": {"$ref": "#/definitions/account/definitions/id"},
            },
        },
    ]
}


def _reference(definition: str, example: str) -> dict[str, Any]:
    """An id or a name, alone or in an object."""
    text = {"type": ["string"]}
    named = {"type": ["object"], "properties": {"id": text, "name": text}}
    identity = {"$ref": f"#/definitions/{definition}/definitions/identity"}
    return {"anyOf": [identity, named], "example": {"name": example}}


def _app_or_null() -> dict[str, Any]:
    return {"anyOf": [{"$ref": "#/definitions/app/definitions/name"}, {"type": ["null"]}]}


DEVIATIONS = (
    Deviation(
        at="definitions/add-on/definitions/state/enum",
        value=["provisioning", "provisioned", "deprovisioning", "deprovisioned"],
        reason="The real API and the CLI know deprovisioning too.",
    ),
    Deviation(
        at="definitions/add-on/definitions/plan",
        value={"$ref": "#/definitions/plan"},
        reason="The whole plan, as the real API answers to Accept-Expansion: plan.",
    ),
    Deviation(
        at="definitions/add-on/definitions/addon_service",
        value={"$ref": "#/definitions/add-on-service"},
        reason="The whole service, as the real API answers to Accept-Expansion: addon_service.",
    ),
    Deviation(
        at="definitions/plan/properties/price/properties/metered",
        value={
            "description": "whether only what is used is paid for",
            "example": False,
            "readOnly": True,
            "type": ["boolean"],
        },
        reason="The real API and the CLI know metered prices.",
    ),
    Deviation(
        at="definitions/add-on/properties/billed_price/properties/metered",
        value={"$ref": "#/definitions/plan/properties/price/properties/metered"},
        reason="As in the plan's price.",
    ),
    Deviation(
        at="definitions/app/definitions/git_url/pattern",
        value=None,
        reason="Annex is not heroku.com.",
    ),
    Deviation(
        at="definitions/app/definitions/web_url/pattern",
        value=None,
        reason="Annex is not heroku.com.",
    ),
    Deviation(
        at="definitions/release/links/Create",
        value=None,
        reason="The same route as Rollback, with a slug; Annex runs no code.",
    ),
    Deviation(
        at="definitions/release/properties/oci_image",
        value={
            "description": "always null: Annex runs no code",
            "example": None,
            "readOnly": True,
            "type": ["null"],
        },
        reason="The real API answers it, and the CLI reads it.",
    ),
    Deviation(
        at="definitions/team-add-on/links/List For Team",
        value=None,
        reason="The same route as the add-on's List By Team, and the same answer.",
    ),
    Deviation(
        at="definitions/team/definitions/role/enum",
        value=["admin", "collaborator", "member", "owner", "viewer", None],
        reason="A member can be made a viewer (team_role), and then is one in answers, too.",
    ),
    Deviation(
        at="definitions/collaborator/links/Create/schema/properties/user",
        value=USER,
        reason="The real API also takes an object with the email or the id.",
    ),
    Deviation(
        at="definitions/team-app-collaborator/links/Create/schema/properties/user",
        value=USER,
        reason="The real API also takes an object with the email or the id.",
    ),
    Deviation(
        at="definitions/oauth-authorization/links/Create/schema/required",
        value=None,
        reason="The CLI leaves the scope out; it is global then.",
    ),
    Deviation(
        at="definitions/oauth-authorization/links/Create/schema/properties/expires_in",
        value={
            "anyOf": [
                {"$ref": "#/definitions/oauth-token/definitions/expires_in"},
                {"type": ["string"], "pattern": "^[0-9]+$"},
            ]
        },
        reason="The CLI sends what was typed, a string.",
    ),
    Deviation(
        at="definitions/oauth-authorization/links/Update/schema/required",
        value=None,
        reason="There are no OAuth clients in Annex; only the description can be changed.",
    ),
    Deviation(
        at="definitions/app/properties/create_status",
        value={
            "description": "always complete: an app is made at once",
            "example": "complete",
            "readOnly": True,
            "type": ["string"],
        },
        reason="The real API answers it, and the CLI reads it.",
    ),
    Deviation(
        at="definitions/invoice/required",
        value=[
            "charges_total",
            "created_at",
            "credits_total",
            "id",
            "period_end",
            "period_start",
            "state",
            "total",
            "updated_at",
        ],
        reason="A draft has no number yet.",
    ),
    Deviation(
        at="definitions/team-invoice/required",
        value=[
            "addons_total",
            "charges_total",
            "created_at",
            "credits_total",
            "database_total",
            "dyno_units",
            "id",
            "period_end",
            "period_start",
            "platform_total",
            "state",
            "total",
            "updated_at",
            "weighted_dyno_hours",
        ],
        reason="A draft has no number yet, and Annex takes no payments that could have a status.",
    ),
    Deviation(
        at="definitions/add-on-attachment/properties/config_vars",
        value={"$ref": "#/definitions/add-on/definitions/config_vars"},
        reason="The real API answers it to Accept-Inclusion: config_vars.",
    ),
    Deviation(
        at="definitions/add-on-attachment/required",
        value=[
            "addon",
            "app",
            "created_at",
            "id",
            "log_input_url",
            "name",
            "namespace",
            "updated_at",
            "web_url",
        ],
        reason="Without Accept-Inclusion there are no config_vars.",
    ),
    Deviation(
        at="definitions/add-on-attachment/properties/addon/properties/plan",
        value={
            "description": "identity of the add-on's plan",
            "properties": {
                "id": {"$ref": "#/definitions/plan/definitions/id"},
                "name": {"$ref": "#/definitions/plan/definitions/name"},
            },
            "strictProperties": True,
            "type": ["object"],
        },
        reason="The real API answers it to Accept-Inclusion: addon:plan.",
    ),
    Deviation(
        at="definitions/app-webhook-event/definitions/payload/properties/published_at",
        value={"$ref": "#/definitions/app-webhook-event/definitions/created_at"},
        reason="It is in what the real API posts, and the CLI prints it.",
    ),
    Deviation(
        at="definitions/add-on/links/Create/schema/properties/plan",
        value=_reference("plan", "heroku-inference:standard"),
        reason="The CLI sends an object with the name.",
    ),
    Deviation(
        at="definitions/add-on/links/Update/schema/properties/plan",
        value=_reference("plan", "heroku-inference:standard"),
        reason="The CLI sends an object with the name.",
    ),
    Deviation(
        at="definitions/add-on/links/Update/schema/required",
        value=None,
        reason="`heroku addons:rename` sends the name alone.",
    ),
    Deviation(
        at="definitions/add-on/definitions/config",
        value={
            "additionalProperties": {"type": ["string", "boolean"]},
            "description": "custom add-on provisioning options",
            "example": {"db-version": "1.2.3"},
            "type": ["object"],
        },
        reason="The CLI sends true for a flag without a value, and names have dashes.",
    ),
    Deviation(
        at="definitions/add-on-attachment/links/Create/schema/properties/addon",
        value=_reference("add-on", "inference-acute-10001"),
        reason="The CLI sends an object with the name.",
    ),
    Deviation(
        at="definitions/add-on-attachment/links/Create/schema/properties/app",
        value=_reference("app", "shop"),
        reason="The CLI sends an object with the name.",
    ),
    Deviation(
        at="definitions/add-on/links/Resolution/schema/properties/app",
        value=_app_or_null(),
        reason="The CLI sends null where it has no app.",
    ),
    Deviation(
        at="definitions/add-on-attachment/links/Resolution/schema/properties/app",
        value=_app_or_null(),
        reason="The CLI sends null where it has no app.",
    ),
)
