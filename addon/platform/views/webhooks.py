"""An app's webhooks, and what was delivered to them."""

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import ranges, webhook_bodies, webhooks
from addon.platform.access import Permission
from addon.platform.models import App
from addon.platform.views.base import PlatformView, app_of, creation_id
from addon.platform.webhook_serializers import delivery_json, event_json, webhook_json

SECRET_HEADER = "Heroku-Webhook-Secret"  # noqa: S105 - not a secret itself


class WebhooksView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        return ranges.answer(
            request,
            webhooks.list_webhooks(_app(request, app)),
            sortable={"created_at": "created_at", "id": "id"},
            default="created_at",
            to_json=lambda rows: [webhook_json(row) for row in rows],
        )

    def post(self, request: Request, app: str) -> Response:
        found, wanted = _app(request, app), webhook_bodies.read_new_webhook(request.data)
        webhook_id = creation_id(request, found.id)
        made = webhooks.create_webhook(found, wanted, webhook_id, timezone.now())
        secret = webhooks.secret_to_tell(made, wanted)
        headers = {} if secret is None else {SECRET_HEADER: secret}
        return Response(webhook_json(made), status=201, headers=headers)


class WebhookView(PlatformView):
    def get(self, request: Request, app: str, webhook: str) -> Response:
        return Response(webhook_json(webhooks.get_webhook(_app(request, app), webhook)))

    def patch(self, request: Request, app: str, webhook: str) -> Response:
        found = webhooks.get_webhook(_app(request, app), webhook)
        changes = webhook_bodies.read_webhook_changes(request.data)
        return Response(webhook_json(webhooks.change_webhook(found, changes, timezone.now())))

    def delete(self, request: Request, app: str, webhook: str) -> Response:
        found = webhooks.get_webhook(_app(request, app), webhook)
        webhooks.remove_webhook(found)
        return Response(webhook_json(found))


class WebhookDeliveriesView(PlatformView):
    """`?eq[status]=failed` lists those only."""

    def get(self, request: Request, app: str) -> Response:
        status = webhook_bodies.read_status(request.query_params.get("eq[status]"))
        return ranges.answer(
            request,
            webhooks.list_deliveries(_app(request, app), status),
            sortable={"seq": "seq", "id": "id"},
            default="seq",
            to_json=lambda rows: [delivery_json(row) for row in rows],
            unique=("seq", "id"),
        )


class WebhookDeliveryView(PlatformView):
    def get(self, request: Request, app: str, delivery: str) -> Response:
        return Response(delivery_json(webhooks.get_delivery(_app(request, app), delivery)))


class WebhookEventsView(PlatformView):
    def get(self, request: Request, app: str) -> Response:
        return ranges.answer(
            request,
            _app(request, app).webhook_events.all(),
            sortable={"seq": "seq", "id": "id"},
            default="seq",
            to_json=lambda rows: [event_json(row) for row in rows],
            unique=("seq", "id"),
        )


class WebhookEventView(PlatformView):
    def get(self, request: Request, app: str, event: str) -> Response:
        return Response(event_json(webhooks.get_event(_app(request, app), event)))


def _app(request: Request, identity: str) -> App:
    """Raises AppNotFound, Forbidden."""
    return app_of(request, identity, Permission.DEPLOY)
