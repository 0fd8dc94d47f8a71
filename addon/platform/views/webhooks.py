"""Webhooks of apps and, for their providers, of add-ons; and what was delivered to them."""

from collections.abc import Mapping

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import ranges, webhook_bodies, webhooks
from addon.platform.access import Permission
from addon.platform.partner_access import READ
from addon.platform.views.base import PlatformView, app_of, creation_id
from addon.platform.views.partner import partner_for
from addon.platform.webhook_serializers import delivery_json, event_json, webhook_json
from addon.platform.webhooks import Subject

SECRET_HEADER = "Heroku-Webhook-Secret"  # noqa: S105 - not a secret itself


class _OfAnApp(PlatformView):
    def subject(self, request: Request, path: Mapping[str, str]) -> Subject:
        """Raises AppNotFound, Forbidden."""
        return Subject(app=app_of(request, path["app"], Permission.DEPLOY))


class _OfAnAddon(_OfAnApp):
    partner_methods = READ | {"POST", "PATCH", "DELETE"}

    def subject(self, request: Request, path: Mapping[str, str]) -> Subject:
        """Raises AddonNotFound, PartnerOnly."""
        addon = partner_for(request, path["addon"]).addon
        return Subject(app=addon.app, addon=addon)


class WebhooksView(_OfAnApp):
    def get(self, request: Request, **path: str) -> Response:
        return ranges.answer(
            request,
            webhooks.list_webhooks(self.subject(request, path)),
            sortable={"created_at": "created_at", "id": "id"},
            default="created_at",
            to_json=lambda rows: [webhook_json(row) for row in rows],
        )

    def post(self, request: Request, **path: str) -> Response:
        subject = self.subject(request, path)
        wanted = webhook_bodies.read_new_webhook(subject, request.data)
        webhook_id = creation_id(request, subject.app.id)
        made = webhooks.create_webhook(subject, wanted, webhook_id, timezone.now())
        secret = webhooks.secret_to_tell(made, wanted)
        headers = {} if secret is None else {SECRET_HEADER: secret}
        return Response(webhook_json(made), status=201, headers=headers)


class WebhookView(_OfAnApp):
    def get(self, request: Request, webhook: str, **path: str) -> Response:
        return Response(webhook_json(webhooks.get_webhook(self.subject(request, path), webhook)))

    def patch(self, request: Request, webhook: str, **path: str) -> Response:
        subject = self.subject(request, path)
        found = webhooks.get_webhook(subject, webhook)
        changes = webhook_bodies.read_webhook_changes(subject, request.data)
        return Response(webhook_json(webhooks.change_webhook(found, changes, timezone.now())))

    def delete(self, request: Request, webhook: str, **path: str) -> Response:
        found = webhooks.get_webhook(self.subject(request, path), webhook)
        webhooks.remove_webhook(found)
        return Response(webhook_json(found))


class WebhookDeliveriesView(_OfAnApp):
    """`?eq[status]=failed` lists those only."""

    def get(self, request: Request, **path: str) -> Response:
        status = webhook_bodies.read_status(request.query_params.get("eq[status]"))
        return ranges.answer(
            request,
            webhooks.list_deliveries(self.subject(request, path), status),
            sortable={"seq": "seq", "id": "id"},
            default="seq",
            to_json=lambda rows: [delivery_json(row) for row in rows],
            unique=("seq", "id"),
        )


class WebhookDeliveryView(_OfAnApp):
    def get(self, request: Request, delivery: str, **path: str) -> Response:
        return Response(delivery_json(webhooks.get_delivery(self.subject(request, path), delivery)))


class WebhookEventsView(_OfAnApp):
    def get(self, request: Request, **path: str) -> Response:
        return ranges.answer(
            request,
            webhooks.list_events(self.subject(request, path)),
            sortable={"seq": "seq", "id": "id"},
            default="seq",
            to_json=lambda rows: [event_json(row) for row in rows],
            unique=("seq", "id"),
        )


class WebhookEventView(_OfAnApp):
    def get(self, request: Request, event: str, **path: str) -> Response:
        return Response(event_json(webhooks.get_event(self.subject(request, path), event)))


class AddonWebhooksView(_OfAnAddon, WebhooksView):
    pass


class AddonWebhookView(_OfAnAddon, WebhookView):
    pass


class AddonWebhookDeliveriesView(_OfAnAddon, WebhookDeliveriesView):
    pass


class AddonWebhookDeliveryView(_OfAnAddon, WebhookDeliveryView):
    pass


class AddonWebhookEventsView(_OfAnAddon, WebhookEventsView):
    pass


class AddonWebhookEventView(_OfAnAddon, WebhookEventView):
    pass
