"""The errors of the Partner API, on one screen: exception, status, id. The text is its own."""

from typing import Any

from rest_framework import exceptions
from rest_framework.response import Response

from addon.json_api import InvalidField, unavailable
from addon.provider.key_rotation import PlatformNotReachable, SharedKey, TooManyKeys
from addon.provider.options import InvalidOption
from addon.provider.provisioning import (
    AttachmentGone,
    AttachmentNotFound,
    ContentDiffers,
    RegionNotServed,
    ResourceGone,
    ResourceNotFound,
    ResourceNotReady,
    UnknownPlan,
)

TABLE: dict[type[Exception], tuple[int, str]] = {
    exceptions.ParseError: (400, "bad_request"),
    exceptions.NotAuthenticated: (401, "unauthorized"),
    exceptions.AuthenticationFailed: (401, "unauthorized"),
    ResourceNotFound: (404, "not_found"),
    AttachmentNotFound: (404, "not_found"),
    exceptions.MethodNotAllowed: (405, "method_not_allowed"),
    ContentDiffers: (409, "conflict"),
    ResourceGone: (410, "gone"),
    AttachmentGone: (410, "gone"),
    InvalidField: (422, "invalid_params"),
    InvalidOption: (422, "invalid_params"),
    RegionNotServed: (422, "invalid_params"),
    UnknownPlan: (422, "invalid_params"),
    SharedKey: (422, "invalid_params"),
    TooManyKeys: (422, "invalid_params"),
    PlatformNotReachable: (422, "invalid_params"),
    ResourceNotReady: (503, "service_unavailable"),
}


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """The answer to `error`; None, and so a logged 500, for one that the table lacks."""
    row = TABLE.get(type(error))
    if row is None:
        return unavailable(error)
    status, error_id = row
    response = Response({"id": error_id, "message": str(error)}, status=status)
    challenge = getattr(error, "auth_header", None)
    if challenge is not None:
        response["WWW-Authenticate"] = challenge
    return response
