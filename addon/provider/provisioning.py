"""Provisioning, plan changes, attaching, and their ends: idempotent by the ids that are sent.

A platform may send every request more than once. A repeat gets the answer of the first, the same
key included; a repeat with other content is refused; what was removed is never made again. Each
function is one transaction.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction

from addon.inserts import insert_unless_there
from addon.provider import credentials
from addon.provider.manifest import CONFIG_VARS_PREFIX
from addon.provider.models import Attachment, Resource
from billing import subscriptions
from billing.models import Plan, Subscription
from billing.plans import find_plan, plans_of


class UnknownPlan(Exception):
    """The plan is not one of ours; the text lists those that are."""


class ContentDiffers(Exception):
    """An id that is in use already came again with other content."""


class ResourceNotFound(Exception):
    pass


class ResourceGone(Exception):
    pass


class AttachmentNotFound(Exception):
    pass


class AttachmentGone(Exception):
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachmentRequest:
    id: UUID
    name: str
    app_name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ProvisionRequest:
    uuid: UUID
    name: str
    plan_slug: str
    region: str
    options: Mapping[str, str]
    callback_url: str
    log_input_url: str = field(default="", repr=False)
    log_drain_token: str = field(default="", repr=False)
    attachment: AttachmentRequest

    def digest(self) -> str:
        """Over what a repeat must have in common with the first request."""
        content = [self.plan_slug, self.region, dict(self.options)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Provisioned:
    resource_id: UUID
    config: Mapping[str, str] = field(repr=False)
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanChanged:
    """`config` is what the resource's attachments have alike; their keys stay."""

    config: Mapping[str, str]
    message: str


def provision(request: ProvisionRequest, now: datetime) -> Provisioned:
    """The resource `request.uuid` with its first attachment and key, made unless it exists.

    Raises UnknownPlan, ContentDiffers, ResourceGone, AttachmentGone.
    """
    plan = _get_plan(request.plan_slug)
    with transaction.atomic():
        resource = _row(request, now)
        # A parallel request of the same uuid waits here until the first has committed.
        if insert_unless_there(resource):
            _subscribe(resource, plan, now)
        else:
            resource = _lock(request.uuid)
            _check_repeat(resource, request)
        config = _config(_attach(resource, request.attachment, now), plan)
    return Provisioned(resource_id=resource.id, config=config, message=_message(plan))


def _subscribe(resource: Resource, plan: Plan, now: datetime) -> None:
    """Our own platform has subscribed the resource, and may have ended that already; of another
    platform we know no customer but the resource."""
    if not Subscription.objects.filter(resource_id=resource.id).exists():
        subscriptions.subscribe(
            resource_id=resource.id,
            customer_id=resource.id,
            email="",
            name="",
            resource_name=resource.name,
            plan=plan,
            now=now,
        )


def _message(plan: Plan) -> str:
    url = f"{settings.INFERENCE_URL}/v1/embeddings"
    others = ", other models by the parameter model" if plan.serves_all_models else ""
    return f"Ready: POST {url} for the model {plan.model_id}{others}"


def _get_plan(slug: str) -> Plan:
    plan = find_plan(settings.ADDON_SERVICE_NAME, slug)
    if plan is None:
        known = ", ".join(plan.slug for plan in plans_of(settings.ADDON_SERVICE_NAME))
        raise UnknownPlan(f"There is no plan {slug!r}. The plans are: {known or 'none yet'}")
    return plan


def _check_repeat(resource: Resource, request: ProvisionRequest) -> None:
    is_same = resource.request_digest == request.digest()
    if not is_same or not resource.attachments.filter(id=request.attachment.id).exists():
        raise ContentDiffers(
            f"The resource {resource.id} exists already, with another plan, region, options or "
            "attachment"
        )


def _row(request: ProvisionRequest, now: datetime) -> Resource:
    return Resource(
        id=request.uuid,
        name=request.name,
        plan_slug=request.plan_slug,
        region=request.region,
        options=dict(request.options),
        callback_url=request.callback_url,
        log_input_url=request.log_input_url,
        log_drain_token=request.log_drain_token,
        request_digest=request.digest(),
        created_at=now,
    )


def _attach(resource: Resource, request: AttachmentRequest, now: datetime) -> str:
    """The key that config vars show, of an attachment that is made unless it exists."""
    attachment = Attachment(
        id=request.id,
        resource=resource,
        name=request.name,
        app_name=request.app_name,
        created_at=now,
    )
    if insert_unless_there(attachment):
        return credentials.issue(attachment, now).key
    attachment = Attachment.objects.get(id=request.id)
    if attachment.detached_at is not None:
        raise AttachmentGone(f"The attachment {attachment.id} was detached")
    if (attachment.resource_id, attachment.name) != (resource.id, request.name):
        raise ContentDiffers(
            f"The attachment {attachment.id} exists already, with another resource or name"
        )
    if attachment.app_name != request.app_name:  # the app was renamed
        attachment.app_name = request.app_name
        attachment.save(update_fields=["app_name"])
    key = credentials.newest_key(attachment)
    if key is None:
        raise AttachmentGone(f"Every key of the attachment {attachment.id} was revoked")
    return key


def _config(key: str, plan: Plan) -> dict[str, str]:
    return {**_shared_config(plan), f"{CONFIG_VARS_PREFIX}_KEY": key}


def _shared_config(plan: Plan) -> dict[str, str]:
    """What every attachment of a resource has alike."""
    return {
        f"{CONFIG_VARS_PREFIX}_URL": settings.INFERENCE_URL,
        f"{CONFIG_VARS_PREFIX}_MODEL_ID": plan.model_id,
    }


def change_plan(resource_id: UUID, plan_slug: str, now: datetime) -> PlanChanged:
    """Put the resource on another plan, or on the one that it has, which changes nothing.

    Raises UnknownPlan, ResourceNotFound, ResourceGone.
    """
    plan = _get_plan(plan_slug)
    with transaction.atomic():
        resource = _lock(resource_id)
        if resource.plan_slug != plan.slug:
            Resource.objects.filter(id=resource.id).update(plan_slug=plan.slug)
            # Where our own platform is the customer's, it changes the subscription itself.
            if subscriptions.find_customer_id(resource.id) == resource.id:
                subscriptions.change_plan(resource.id, plan, now)
    return PlanChanged(config=_shared_config(plan), message=_message(plan))


def deprovision(resource_id: UUID, now: datetime) -> None:
    """End the resource, its subscription, its attachments and their keys.

    Raises ResourceNotFound, ResourceGone.
    """
    with transaction.atomic():
        resource = _lock(resource_id)
        Resource.objects.filter(id=resource.id).update(deprovisioned_at=now)
        subscriptions.end_subscription(resource.id, now)
        for attachment in resource.attachments.filter(detached_at=None):
            _end(attachment, now)


def attach(resource_id: UUID, request: AttachmentRequest, now: datetime) -> Mapping[str, str]:
    """The config of one more attachment, with a key of its own.

    Raises ResourceNotFound, ResourceGone, AttachmentGone, ContentDiffers.
    """
    with transaction.atomic():
        resource = _lock(resource_id)
        return _config(_attach(resource, request, now), _get_plan(resource.plan_slug))


def detach(resource_id: UUID, attachment_id: UUID, now: datetime) -> None:
    """End one attachment and its keys.

    Raises ResourceNotFound, ResourceGone, AttachmentNotFound, AttachmentGone.
    """
    with transaction.atomic():
        resource = _lock(resource_id)
        attachment = resource.attachments.filter(id=attachment_id).first()
        if attachment is None:
            raise AttachmentNotFound(f"There is no attachment {attachment_id} of this resource")
        if attachment.detached_at is not None:
            raise AttachmentGone(f"The attachment {attachment_id} was detached")
        _end(attachment, now)


def _lock(resource_id: UUID) -> Resource:
    resource = Resource.objects.select_for_update().filter(id=resource_id).first()
    if resource is None:
        raise ResourceNotFound(f"There is no resource {resource_id}")
    if resource.deprovisioned_at is not None:
        raise ResourceGone(f"The resource {resource_id} was deprovisioned")
    return resource


def _end(attachment: Attachment, now: datetime) -> None:
    credentials.revoke(attachment, now)
    attachment.detached_at = now
    attachment.save(update_fields=["detached_at"])
