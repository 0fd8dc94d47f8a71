"""What a provider sees and may do by its token for one add-on: that add-on, its attachments, and
the apps that these are on. Everything else there is not, for it.
"""

from collections.abc import Collection

from django.db.models import Q, QuerySet

from addon.json_api import find_uuid, is_storable
from addon.lifecycle import State
from addon.platform.addons import AddonNotFound
from addon.platform.heroku_apps import AppNotFound
from addon.platform.models import Addon, App, Attachment, AttachmentState, Team
from addon.platform.partner_tokens import AddonGone, Partner
from addon.platform.teams import TeamNotFound

READ = frozenset({"GET", "HEAD"})


class PartnerForbidden(Exception):
    """A provider's token cannot do this."""

    def __init__(self) -> None:
        super().__init__("The access token of an add-on cannot do this")


class PartnerOnly(Exception):
    """Only the provider of the add-on can do this, by the access token that it has for it."""

    def __init__(self) -> None:
        super().__init__("Only the provider of the add-on can do this")


def require_allowed(partner: Partner, method: str, allowed: Collection[str]) -> None:
    """Raises PartnerForbidden, and AddonGone: with the add-on its tokens end."""
    if method not in allowed:
        raise PartnerForbidden
    if partner.addon.state == State.DEPROVISIONED:
        raise AddonGone(partner.addon)


def get_addon(partner: Partner, identity: str) -> Addon:
    """Its own, by id or name. Raises AddonNotFound."""
    addon = partner.addon
    if identity != addon.name and find_uuid(identity) != addon.id:
        raise AddonNotFound
    return addon


def list_addons(partner: Partner) -> QuerySet[Addon]:
    own = Addon.objects.filter(id=partner.addon.id)
    return own.select_related("app", "service", "plan").order_by("created_at", "id")


def list_apps(partner: Partner) -> QuerySet[App]:
    """The app that owns the add-on, and those that it is attached to."""
    addon = partner.addon
    attached = Attachment.objects.filter(addon=addon).exclude(state=AttachmentState.DETACHING)
    here = Q(id=addon.app_id) | Q(id__in=attached.values("app_id"))
    return (
        App.objects.filter(here, destroyed_at=None).select_related("owner__team").order_by("name")
    )


def get_app(partner: Partner, identity: str) -> App:
    """By id or name. Raises AppNotFound."""
    wanted = find_uuid(identity)
    found = (app for app in list_apps(partner) if identity == app.name or wanted == app.id)
    app = next(found, None)
    if app is None:
        raise AppNotFound
    return app


def get_team(partner: Partner, identity: str) -> Team:
    """One that owns such an app, by id or name. Raises TeamNotFound."""
    team_id = find_uuid(identity)
    if team_id is None and not is_storable(identity):
        raise TeamNotFound
    which = Q(name=identity) if team_id is None else Q(id=team_id)
    team = Team.objects.filter(which, account__in=list_apps(partner).values("owner")).first()
    if team is None:
        raise TeamNotFound
    return team


def only_own(partner: Partner | None, attachments: QuerySet[Attachment]) -> QuerySet[Attachment]:
    """For a provider those of its add-on; for anybody else all of `attachments`."""
    return attachments if partner is None else attachments.filter(addon=partner.addon)
