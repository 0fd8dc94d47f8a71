"""Answers about teams, their members and apps, and about who has access to an app."""

from collections.abc import Collection
from uuid import UUID

from addon.json_api import iso
from addon.platform.access import Permission
from addon.platform.collaborators import Access
from addon.platform.models import App, TeamMember
from addon.platform.serializers import Answer, app_json, app_stub, fixed_id
from addon.platform.teams import Membership

DESCRIPTIONS = {
    Permission.VIEW: "Can see the app, its add-ons, attachments and releases.",
    Permission.DEPLOY: "Can manage config vars, releases and webhooks, and attach add-ons.",
    Permission.OPERATE: "Can order, change, share and destroy the app's add-ons.",
    Permission.MANAGE: "Can rename and destroy the app, and manage its collaborators.",
}


def access_json(access: Access) -> Answer:
    return {
        "app": app_stub(access.app),
        "created_at": iso(access.created_at),
        "id": str(access.id),
        "permissions": permissions_json(access.permissions),
        "role": access.role,
        "updated_at": iso(access.updated_at),
        "user": {
            "email": access.account.email,
            "federated": False,
            "id": str(access.account.id),
        },
    }


def permissions_json(permissions: Collection[Permission]) -> list[Answer]:
    return [
        {"description": DESCRIPTIONS[permission], "name": str(permission)}
        for permission in sorted(permissions)
    ]


def team_json(membership: Membership) -> Answer:
    team = membership.team
    return {
        "created_at": iso(team.created_at),
        "credit_card_collections": False,
        "default": False,
        "enterprise_account": None,
        "id": str(team.id),
        "identity_provider": None,
        "membership_limit": None,
        "name": team.name,
        "provisioned_licenses": False,
        "role": membership.role or "collaborator",
        "type": "team",
        "updated_at": iso(team.updated_at),
    }


def features_json(membership: Membership) -> list[Answer]:
    """The one that makes `heroku access:add` ask for permissions."""
    name = "org-access-controls"
    moment = iso(membership.team.created_at)
    return [
        {
            "created_at": moment,
            "description": "Permissions of a team's app can be chosen for each collaborator.",
            "display_name": "App permissions",
            "doc_url": "https://devcenter.heroku.com/articles/app-permissions",
            "enabled": True,
            "feedback_email": "",
            "id": str(fixed_id("feature", name)),
            "name": name,
            "state": "general",
            "updated_at": moment,
        }
    ]


def member_json(member: TeamMember) -> Answer:
    account = member.account
    return {
        "created_at": iso(member.created_at),
        "email": account.email,
        "federated": False,
        "id": str(member.id),
        "identity_provider": None,
        "role": member.role,
        "two_factor_authentication": False,
        "updated_at": iso(member.updated_at),
        "user": {"email": account.email, "id": str(account.id), "name": account.name or None},
    }


def team_app_json(app: App, joined: Collection[UUID]) -> Answer:
    """`joined` are the ids of the apps that the caller is a collaborator of."""
    return {**app_json(app), "joined": app.id in joined, "locked": False}
