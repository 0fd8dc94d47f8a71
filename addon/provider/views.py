"""The Partner API: translate in, one domain call, translate out."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from addon.json_api import AlwaysJson, StrictJsonParser, find_uuid
from addon.provider import errors, key_rotation, provisioning, webhooks
from addon.provider.authentication import PlatformAuthentication
from addon.provider.provisioning import Accepted, AttachmentNotFound, ResourceNotFound
from addon.provider.serializers import (
    accepted_json,
    plan_changed_json,
    provisioned_json,
    read_attachment_request,
    read_plan_slug,
    read_provision_request,
    read_rotation_request,
    rotated_json,
)
from addon.provider.webhooks import InvalidWebhook, NoWebhooks, WrongSignature

SIGNATURE = "Heroku-Webhook-Hmac-SHA256"


class PartnerView(APIView):
    authentication_classes = [PlatformAuthentication]
    content_negotiation_class = AlwaysJson
    parser_classes = [StrictJsonParser]

    def get_exception_handler(self) -> Any:
        return errors.handle


class ResourcesView(PartnerView):
    def post(self, request: Request) -> Response:
        provisioned = provisioning.provision(read_provision_request(request.data), timezone.now())
        if isinstance(provisioned, Accepted):
            return Response(accepted_json(provisioned), status=202)
        return Response(provisioned_json(provisioned), status=201)


class ResourceView(PartnerView):
    def put(self, request: Request, resource: str) -> Response:
        plan_slug = read_plan_slug(request.data)
        changed = provisioning.change_plan(_resource_id(resource), plan_slug, timezone.now())
        if isinstance(changed, Accepted):
            return Response(accepted_json(changed), status=202)
        return Response(plan_changed_json(changed))

    def delete(self, request: Request, resource: str) -> Response:
        accepted = provisioning.deprovision(_resource_id(resource), timezone.now())
        if accepted is not None:
            return Response(accepted_json(accepted), status=202)
        return Response(status=204)


class AttachmentView(PartnerView):
    """Our extension of the contract: credentials per attachment."""

    def put(self, request: Request, resource: str, attachment: str) -> Response:
        resource_id, attachment_id = _resource_id(resource), _attachment_id(attachment)
        attachment_request = read_attachment_request(request.data, attachment_id)
        config = provisioning.attach(resource_id, attachment_request, timezone.now())
        return Response({"config": dict(config)})

    def delete(self, request: Request, resource: str, attachment: str) -> Response:
        provisioning.detach(_resource_id(resource), _attachment_id(attachment), timezone.now())
        return Response(status=204)


class RotateCredentialsView(PartnerView):
    """Our extension of the contract: the config follows by a callback."""

    def post(self, request: Request, resource: str) -> Response:
        resource_id, now = _resource_id(resource), timezone.now()
        wanted = read_rotation_request(request.data)
        if wanted.attachment_id is None:
            rotated = key_rotation.rotate_resource(resource_id, wanted.overlap, now)
        else:
            attachment_id = wanted.attachment_id
            rotated = [
                key_rotation.rotate_attachment(resource_id, attachment_id, wanted.overlap, now)
            ]
        return Response(rotated_json(resource_id, rotated), status=202)


@method_decorator(csrf_exempt, name="dispatch")
class WebhooksView(View):
    """What a platform tells of its own accord; its signature is over the bytes that it sent."""

    def post(self, request: HttpRequest) -> HttpResponse:
        body = request.read(webhooks.BODY_MAX_BYTES + 1)
        try:
            webhooks.check_signature(body, request.headers.get(SIGNATURE, ""))
            news = webhooks.read(body)
        except NoWebhooks:
            return _refuse(404, "not_found", "This provider takes no webhooks")
        except WrongSignature:
            return _refuse(401, "unauthorized", "The signature is wrong")
        except InvalidWebhook as error:
            return _refuse(422, "invalid_params", str(error))
        if news is not None:
            webhooks.apply(news)
        return HttpResponse(status=204)


def _refuse(status: int, error_id: str, message: str) -> JsonResponse:
    return JsonResponse({"id": error_id, "message": message}, status=status)


def _resource_id(text: str) -> UUID:
    resource_id = find_uuid(text)
    if resource_id is None:
        raise ResourceNotFound("There is no such resource: its id would be a UUID")
    return resource_id


def _attachment_id(text: str) -> UUID:
    attachment_id = find_uuid(text)
    if attachment_id is None:
        raise AttachmentNotFound("There is no such attachment: its id would be a UUID")
    return attachment_id
