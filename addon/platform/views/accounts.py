"""The caller's account: who it is, its access tokens, what it is told."""

from collections.abc import Sequence

from django.conf import settings
from django.utils import timezone
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from addon.platform import account_bodies, accounts, authorizations, notifications, ranges
from addon.platform.account_serializers import authorization_json, notification_json
from addon.platform.authentication import (
    PasswordAuthentication,
    account_of,
    authorization_of,
    sent_token,
)
from addon.platform.authorizations import SessionNotFound
from addon.platform.models import Authorization, Notification
from addon.platform.scopes import Area
from addon.platform.serializers import Answer, account_json
from addon.platform.views.base import PlatformView, creation_id


class AccountView(PlatformView):
    area = Area.ACCOUNT

    def get(self, request: Request) -> Response:
        return Response(account_json(account_of(request)))

    def patch(self, request: Request) -> Response:
        account = account_of(request)
        name = account_bodies.find_name(request.data)
        if name is not None:
            accounts.rename_account(account, name)
        return Response(account_json(account))


class RateLimitsView(PlatformView):
    """How many requests are left; asking costs none."""

    area = Area.ACCOUNT
    cost = 0

    def get(self, request: Request) -> Response:
        # Without Redis nothing is limited.
        limit = settings.PLATFORM_REQUESTS_PER_HOUR
        return Response({"remaining": limit if self.remaining is None else self.remaining})


class AuthorizationsView(PlatformView):
    def get_authenticators(self) -> list[BaseAuthentication]:
        """`heroku login -i` makes a token with a password."""
        if self.request.method == "POST":
            return [PasswordAuthentication()]
        return super().get_authenticators()

    def get(self, request: Request) -> Response:
        now = timezone.now()

        def to_json(page: Sequence[Authorization]) -> list[Answer]:
            return [_authorization_json(request, row) for row in page]

        return ranges.answer(
            request,
            authorizations.list_authorizations(account_of(request), now),
            sortable={"id": "id", "created_at": "created_at"},
            default="created_at",
            to_json=to_json,
        )

    def post(self, request: Request) -> Response:
        wanted = account_bodies.read_new_authorization(request.data)
        now = timezone.now()
        issued = authorizations.authorize(
            authorization_of(request), wanted, creation_id(request), now
        )
        return Response(authorization_json(issued.authorization, issued.token, now), status=201)


class AuthorizationView(PlatformView):
    def get(self, request: Request, authorization: str) -> Response:
        return Response(_authorization_json(request, _get(request, authorization)))

    def patch(self, request: Request, authorization: str) -> Response:
        found = _get(request, authorization)
        description = account_bodies.read_description(request.data)
        if description is not None:
            authorizations.describe(found, authorization_of(request), description)
        return Response(_authorization_json(request, found))

    def delete(self, request: Request, authorization: str) -> Response:
        found = _get(request, authorization)
        authorizations.revoke(found, authorization_of(request), timezone.now())
        return Response(_authorization_json(request, found))


class RegenerateTokensView(PlatformView):
    def post(self, request: Request, authorization: str) -> Response:
        found, now = _get(request, authorization), timezone.now()
        issued = authorizations.regenerate(found, authorization_of(request), now)
        return Response(authorization_json(issued.authorization, issued.token, now))


class OwnSessionView(PlatformView):
    """Sessions of single sign-on by an identity provider, which do not exist here;
    `heroku logout` asks for its own to be ended."""

    def delete(self, request: Request) -> Response:
        raise SessionNotFound


class NotificationsView(PlatformView):
    def get(self, request: Request) -> Response:
        def to_json(page: Sequence[Notification]) -> list[Answer]:
            return [notification_json(row) for row in page]

        return ranges.answer(
            request,
            notifications.list_notifications(account_of(request), timezone.now()),
            sortable={"id": "id", "created_at": "created_at"},
            default="created_at",
            is_descending=True,
            to_json=to_json,
        )


class NotificationView(PlatformView):
    def patch(self, request: Request, notification: str) -> Response:
        is_read = account_bodies.read_is_read(request.data)
        found = notifications.mark(account_of(request), notification, is_read=is_read)
        return Response(notification_json(found))


def _get(request: Request, identity: str) -> Authorization:
    return authorizations.get_authorization(account_of(request), identity, timezone.now())


def _authorization_json(request: Request, authorization: Authorization) -> Answer:
    """Whoever asks is shown the token that was sent with the question, as `auth:token` needs it."""
    is_own = authorization.id == authorization_of(request).id
    token = sent_token(request) if is_own else None
    return authorization_json(authorization, token, timezone.now())
