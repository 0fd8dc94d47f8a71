"""Who may do what with an app. Whoever may not even see one is told that there is none.

The permissions are Heroku's. An owner has all of them, and so has an admin of the team that owns
the app. A collaborator of a person's app may view and deploy: what costs money is for its owner to
decide. A collaborator of a team's app has the permissions that were given.
"""

from enum import StrEnum

from django.db.models import Q

from addon.platform.models import Account, App, Collaborator, TeamMember, TeamRole


class Permission(StrEnum):
    VIEW = "view"  # everything but the values of config vars
    DEPLOY = "deploy"  # config vars, releases, attaching to the app, webhooks
    OPERATE = "operate"  # the app's add-ons: order, change, share with other apps, destroy
    MANAGE = "manage"  # rename and destroy the app; its collaborators


ALL = frozenset(Permission)
OF_A_COLLABORATOR = frozenset({Permission.VIEW, Permission.DEPLOY})
OF_A_ROLE = {
    TeamRole.ADMIN: ALL,
    TeamRole.MEMBER: frozenset({Permission.VIEW, Permission.DEPLOY, Permission.OPERATE}),
    TeamRole.VIEWER: frozenset({Permission.VIEW}),
}


class Forbidden(Exception):
    """This may not be done with the app, which `may_see` or knows by an add-on only."""

    def __init__(self, app: App, permission: Permission, *, may_see: bool) -> None:
        super().__init__(
            f"You do not have the permission {permission} on the app {app.name}; ask "
            f"{_owner(app) if may_see else 'its owner'} for it"
        )


def _owner(app: App) -> str:
    team = getattr(app.owner, "team", None)
    return app.owner.email if team is None else f"an admin of the team {team.name}"


def visible_to(account: Account, app: str = "") -> Q:
    """Which apps `account` may see; `app` is the path to the app from the rows that are filtered,
    e.g. "app__" for add-ons."""
    # Subqueries, for a join would list an app once for each of its collaborators.
    shared = Collaborator.objects.filter(account=account).values("app_id")
    teams = TeamMember.objects.filter(account=account).values("team__account_id")
    return (
        Q(**{f"{app}owner": account})
        | Q(**{f"{app}id__in": shared})
        | Q(**{f"{app}owner_id__in": teams})
    )


def permissions_on(app: App, account: Account) -> frozenset[Permission]:
    if app.owner_id == account.id:
        return ALL
    member = TeamMember.objects.filter(team__account_id=app.owner_id, account=account).first()
    granted = frozenset() if member is None else OF_A_ROLE[TeamRole(member.role)]
    collaborator = Collaborator.objects.filter(app=app, account=account).first()
    if collaborator is None:
        return granted
    return granted | given_to(collaborator)


def given_to(collaborator: Collaborator) -> frozenset[Permission]:
    """What a collaborator may do; none are chosen on a person's app."""
    chosen = frozenset(map(Permission, collaborator.permissions))
    return chosen or OF_A_COLLABORATOR


def require(app: App, account: Account, permission: Permission) -> None:
    """Raises Forbidden."""
    permissions = permissions_on(app, account)
    if permission not in permissions:
        raise Forbidden(app, permission, may_see=Permission.VIEW in permissions)
