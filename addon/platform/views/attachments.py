"""Attachments."""

from collections.abc import Iterable

from django.db.models import QuerySet
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import (
    addons,
    attachment_lists,
    attachments,
    bodies,
    heroku_apps,
    partner_access,
    ranges,
)
from addon.platform.attachments import AttachmentNotFound
from addon.platform.authentication import account_of, partner_of
from addon.platform.models import Attachment
from addon.platform.partner_access import READ
from addon.platform.scopes import Area
from addon.platform.serializers import Answer, attachments_json
from addon.platform.views.base import PlatformView, addon_of, app_of, creation_id, viewer_of

INCLUSIONS = ("addon:plan", "config_vars")


class AttachmentsView(PlatformView):
    partner_methods = READ

    def get(self, request: Request) -> Response:
        return _list(request, attachment_lists.list_attachments(viewer_of(request)))

    def post(self, request: Request) -> Response:
        account = account_of(request)
        body = bodies.read_attachment(request.data, creation_id(request))
        addon = addons.get_addon(account, body.addon)
        app = heroku_apps.get_app(account, body.app)
        attachment = attachments.attach(addon, app, account, body.wish, timezone.now())
        return Response(_answer(request, attachment), status=201)


class AttachmentView(PlatformView):
    partner_methods = READ

    def get(self, request: Request, attachment: str) -> Response:
        found = attachment_lists.get_attachment(viewer_of(request), attachment)
        partner = partner_of(request)
        if partner is not None and found.addon_id != partner.addon.id:
            raise AttachmentNotFound
        return Response(_answer(request, found))

    def delete(self, request: Request, attachment: str) -> Response:
        found = attachment_lists.get_attachment(account_of(request), attachment)
        answer = _answer(request, found)
        attachments.detach(found, account_of(request), timezone.now())
        return Response(answer)


class AddonAttachmentsView(PlatformView):
    partner_methods = READ

    def get(self, request: Request, addon: str) -> Response:
        found, account = addon_of(request, addon), viewer_of(request)
        return _list(request, attachment_lists.list_addon_attachments(account, found))


class AppAttachmentsView(PlatformView):
    partner_methods = READ

    def get(self, request: Request, app: str) -> Response:
        return _list(request, attachment_lists.list_app_attachments(app_of(request, app)))


class AppAttachmentView(PlatformView):
    partner_methods = READ

    def get(self, request: Request, app: str, attachment: str) -> Response:
        here = attachment_lists.list_app_attachments(app_of(request, app))
        own = partner_access.only_own(partner_of(request), here)
        found = attachment_lists.get_of(own, attachment)
        return Response(_answer(request, found))


class ResolveAttachmentsView(PlatformView):
    area = Area.LOOK_UP

    def post(self, request: Request) -> Response:
        body = bodies.read_resolve(request.data, "addon_attachment")
        account = account_of(request)
        found = attachment_lists.resolve_attachments(account, body.identity, body.app, body.service)
        return Response(_answers(request, found))


def _list(request: Request, rows: QuerySet[Attachment]) -> Response:
    return ranges.answer(
        request,
        partner_access.only_own(partner_of(request), rows),
        sortable={"id": "id", "name": "name", "created_at": "created_at"},
        default="created_at",
        to_json=lambda page: _answers(request, page),
    )


def _answers(request: Request, attachments: Iterable[Attachment]) -> list[Answer]:
    """With what `Accept-Inclusion` asks for; other words in it are ignored."""
    asked = {word.strip() for word in request.headers.get("Accept-Inclusion", "").split(",")}
    include = [name for name in INCLUSIONS if name in asked]
    return attachments_json(attachments, viewer_of(request), include)


def _answer(request: Request, attachment: Attachment) -> Answer:
    return _answers(request, [attachment])[0]
