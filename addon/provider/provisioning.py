"""Provisioning, plan changes, attaching, and their ends: idempotent by the ids that are sent.

A platform may send every request more than once. A repeat gets the answer of the first, the same
key included; a repeat with other content is refused; what was removed is never made again. Each
function is one transaction.

Where a plan says so, a request is only accepted: deliveries.py has `finish` do the work, and tells
the platform.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from addon.provider import callbacks, credentials, grants, log_lines
from addon.provider.endpoints import endpoint_of
from addon.provider.grants import OAuthGrant
from addon.provider.manifest import CONFIG_VARS_PREFIX
from addon.provider.models import Attachment, Resource, Work
from addon.provider.options import check_options
from addon.regions import PARTNER_NAMES, find_region
from addon.statements import insert_unless_there
from billing import subscriptions
from billing.compiled_queries import CompiledQuery
from billing.models import Plan, Subscription
from billing.plans import default_model_id, find_plan, plans_of


class UnknownPlan(Exception):
    """The plan is not one of ours; the text lists those that are."""


class RegionNotServed(Exception):
    """The region is not one of ours; the text lists those that are."""


class ContentDiffers(Exception):
    """An id that is in use already came again with other content."""


class ResourceNotFound(Exception):
    pass


class ResourceGone(Exception):
    pass


class ResourceNotReady(Exception):
    """It is still being provisioned."""


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
    oauth_grant: OAuthGrant | None = None
    attachment: AttachmentRequest

    def digest(self) -> str:
        """Over what a repeat must have in common with the first request."""
        region = PARTNER_NAMES.get(find_region(self.region) or "", self.region)
        content = [self.plan_slug, region, dict(self.options)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Provisioned:
    resource_id: UUID
    config: Mapping[str, str] = field(repr=False)
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Accepted:
    """It is done in the background, and the platform is called back."""

    resource_id: UUID
    message: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanChanged:
    """`config` is what the resource's attachments have alike; their keys stay."""

    config: Mapping[str, str]
    message: str


def provision(request: ProvisionRequest, now: datetime) -> Provisioned | Accepted:
    """The resource `request.uuid` with its first attachment and key, made unless it exists.

    A repeat is told what holds now, also where the plan or the key has changed since. Accepted is
    the answer for a plan that is provisioned in the background, to a repeat too. Raises
    UnknownPlan, RegionNotServed, InvalidOption, ContentDiffers, ResourceGone, AttachmentGone.
    """
    asked = find_plan(settings.ADDON_SERVICE_NAME, request.plan_slug)
    with transaction.atomic():
        resource = _row(request, asked, now)
        # A parallel request of the same uuid waits here until the first has committed.
        if insert_unless_there(resource):
            plan = asked or _get_plan(request.plan_slug)
            _check_order(request, plan)
            _subscribe(resource, plan, now)
            grants.keep(resource, request.oauth_grant, now)
            if resource.is_async:
                callbacks.wake()  # else only a grant is to be exchanged, in time by the next round
        else:
            resource = _lock(request.uuid)
            plan = _get_plan(resource.plan_slug)
            _check_repeat(resource, request)
            grants.keep(resource, request.oauth_grant, now)
            if not grants.is_exchanged(resource):
                callbacks.make_due(resource, now)
        if resource.is_async:
            _insert_attachment(resource, request.attachment, now)
            return Accepted(resource_id=resource.id, message=_message_later(resource))
        key = _attach(resource, request.attachment, now)
        config = _config(resource, key, plan)
    return Provisioned(resource_id=resource.id, config=config, message=_message(resource, plan))


def _check_order(request: ProvisionRequest, plan: Plan) -> None:
    """Raises RegionNotServed, InvalidOption."""
    if _region(request) not in settings.REGIONS:
        served = ", ".join(f"{name} ({PARTNER_NAMES[name]})" for name in settings.REGIONS)
        raise RegionNotServed(
            f"There is no {settings.ADDON_SERVICE_NAME} in the region {request.region!r}. The "
            f"regions are: {served}"
        )
    check_options(plan, request.options)


def _region(request: ProvisionRequest) -> str:
    """Where the platform names none, the deployment's first."""
    return find_region(request.region) or request.region or str(settings.REGIONS[0])


def _message_later(resource: Resource) -> str:
    return f"{resource.name or resource.id} is being made in the background"


def _subscribe(resource: Resource, plan: Plan, now: datetime) -> None:
    """Our own platform has subscribed the resource, and may have ended that already; of another
    platform we know no customer but the resource."""
    if _subscribed.first(resource.id) is None:
        subscriptions.subscribe(
            resource_id=resource.id,
            customer_id=resource.id,
            email="",
            name="",
            resource_name=resource.name,
            plan=plan,
            now=now,
        )


@CompiledQuery
def _subscribed(resource_id: UUID) -> QuerySet[Subscription, tuple[UUID]]:
    return Subscription.objects.filter(resource_id=resource_id).values_list("id")[:1]


def _message(resource: Resource, plan: Plan) -> str:
    url = f"{endpoint_of(resource.region)}/v1/embeddings"
    others = ", other models by the parameter model" if plan.serves_all_models else ""
    model_id = default_model_id(plan, resource.options)
    return f"Ready: POST {url} for the model {model_id}{others}"


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


def _row(request: ProvisionRequest, plan: Plan | None, now: datetime) -> Resource:
    can_call_back = grants.is_usable(request.oauth_grant, request.callback_url)
    is_async = plan is not None and can_call_back and Work.PROVISION in plan.async_operations
    return Resource(
        id=request.uuid,
        name=request.name,
        plan_slug=request.plan_slug,
        region=_region(request),
        options=dict(request.options),
        callback_url=request.callback_url,
        log_input_url=request.log_input_url,
        log_drain_token=request.log_drain_token,
        request_digest=request.digest(),
        created_at=now,
        provisioned_at=None if is_async else now,
        is_async=is_async,
        pending=Work.PROVISION if is_async else "",
        next_attempt_at=now if can_call_back else None,  # to exchange the grant, at least
    )


def _attach(resource: Resource, request: AttachmentRequest, now: datetime) -> str:
    """The key that config vars show, of an attachment that is made unless it exists."""
    attachment, created = _insert_attachment(resource, request, now)
    return credentials.issue(attachment, now).key if created else _key_of(attachment)


def _insert_attachment(
    resource: Resource, request: AttachmentRequest, now: datetime
) -> tuple[Attachment, bool]:
    attachment = Attachment(
        id=request.id,
        resource=resource,
        name=request.name,
        app_name=request.app_name,
        created_at=now,
    )
    if insert_unless_there(attachment):
        return attachment, True
    attachment = Attachment.objects.get(id=request.id)
    if attachment.detached_at is not None:
        raise AttachmentGone(f"The attachment {attachment.id} was detached")
    # Where the platform names no attachments, webhooks may have named the one there is since.
    is_named = attachment.id != resource.id
    if attachment.resource_id != resource.id or (is_named and attachment.name != request.name):
        raise ContentDiffers(
            f"The attachment {attachment.id} exists already, with another resource or name"
        )
    if is_named and attachment.app_name != request.app_name:  # the app was renamed
        attachment.app_name = request.app_name
        attachment.save(update_fields=["app_name"])
    return attachment, False


def _key_of(attachment: Attachment) -> str:
    key = credentials.newest_key(attachment)
    if key is None:
        raise AttachmentGone(f"Every key of the attachment {attachment.id} was revoked")
    return key


def _config(resource: Resource, key: str, plan: Plan) -> dict[str, str]:
    return {**_shared_config(resource, plan), f"{CONFIG_VARS_PREFIX}_KEY": key}


def _shared_config(resource: Resource, plan: Plan) -> dict[str, str]:
    """What every attachment of a resource has alike."""
    return {
        f"{CONFIG_VARS_PREFIX}_URL": endpoint_of(resource.region),
        f"{CONFIG_VARS_PREFIX}_MODEL_ID": default_model_id(plan, resource.options),
    }


def current_config(resource_id: UUID, attachment: Attachment | None) -> Mapping[str, str]:
    """What the platform is to have now: of `attachment`, or without one of the whole resource.

    Raises ResourceNotFound, ResourceGone, AttachmentGone, UnknownPlan.
    """
    resource = check_live(Resource.objects.filter(id=resource_id).first(), resource_id)
    plan = _get_plan(resource.plan_slug)
    # A platform that names no attachments has one, whose id is the resource's, and all is its.
    wanted = resource.id if attachment is None else attachment.id
    found = resource.attachments.filter(id=wanted).first()
    if found is None:
        return _shared_config(resource, plan)
    if found.detached_at is not None:
        raise AttachmentGone(f"The attachment {found.id} was detached")
    return _config(resource, _key_of(found), plan)


def change_plan(resource_id: UUID, plan_slug: str, now: datetime) -> PlanChanged | Accepted:
    """Put the resource on another plan, or on the one that it has, which changes nothing.

    What was asked for last holds. Raises UnknownPlan, ResourceNotFound, ResourceGone,
    ResourceNotReady.
    """
    with transaction.atomic():
        resource = lock_ready(resource_id)
        plan = _get_plan(plan_slug)
        is_later = Work.PLAN_CHANGE in plan.async_operations and grants.may_call(resource)
        if resource.plan_slug != plan.slug and is_later:
            resource.pending, resource.pending_plan_slug = Work.PLAN_CHANGE, plan.slug
            resource.save(update_fields=["pending", "pending_plan_slug"])
            callbacks.make_due(resource, now)
            return Accepted(resource_id=resource.id, message=f"Changing the plan to {plan.name}")
        put_on_plan(resource, plan, now)
    return PlanChanged(config=_shared_config(resource, plan), message=_message(resource, plan))


def put_on_plan(resource: Resource, plan: Plan, now: datetime) -> None:
    """Within a transaction that holds the resource's lock."""
    if resource.plan_slug != plan.slug:
        log_lines.write_plan_change(resource, resource.plan_slug, plan.slug, now)
        resource.plan_slug = plan.slug
        # Where our own platform is the customer's, it changes the subscription itself.
        if subscriptions.find_customer_id(resource.id) == resource.id:
            subscriptions.change_plan(resource.id, plan, now)
    resource.pending = resource.pending_plan_slug = ""
    resource.save(update_fields=["plan_slug", "pending", "pending_plan_slug"])


def deprovision(resource_id: UUID, now: datetime) -> Accepted | None:
    """End the resource, its subscription, its attachments and their keys; or later, if Accepted.

    Raises ResourceNotFound, ResourceGone.
    """
    with transaction.atomic():
        resource = _lock_row(resource_id)
        if resource.pending != Work.DEPROVISION:
            plan = find_plan(settings.ADDON_SERVICE_NAME, resource.plan_slug)
            is_later = plan is not None and Work.DEPROVISION in plan.async_operations
            # What the platform still waits for to be provisioned needs no second wait.
            if not is_later or resource.pending == Work.PROVISION or not grants.may_call(resource):
                end(resource, now)
                grants.discard(resource)
                return None
            resource.pending, resource.pending_plan_slug = Work.DEPROVISION, ""
            resource.save(update_fields=["pending", "pending_plan_slug"])
            callbacks.make_due(resource, now)
    return Accepted(resource_id=resource.id, message="It is being removed")


def end(resource: Resource, now: datetime) -> None:
    """Within a transaction that holds the resource's lock. What was never handed out costs
    nothing."""
    was_made = resource.pending != Work.PROVISION
    resource.deprovisioned_at = now
    resource.pending = resource.pending_plan_slug = ""
    resource.save(update_fields=["deprovisioned_at", "pending", "pending_plan_slug"])
    callbacks.end_all(resource, "overtaken", now)
    subscriptions.end_subscription(resource.id, now if was_made else resource.created_at)
    for attachment in resource.attachments.filter(detached_at=None):
        _end(attachment, now)


def finish(resource_id: UUID, now: datetime) -> None:
    """Do what was accepted, and queue what the platform is to be told; nothing when it is done.

    Raises ResourceNotFound, ResourceGone, UnknownPlan.
    """
    with transaction.atomic():
        resource = _lock_row(resource_id)
        match resource.pending:
            case Work.PROVISION if resource.provisioned_at is None:
                _finish_provision(resource, now)
            case Work.PLAN_CHANGE:
                put_on_plan(resource, _get_plan(resource.pending_plan_slug), now)
                callbacks.queue_shared_config(resource, now)
                callbacks.queue_provisioned(resource, now)
            case Work.DEPROVISION:
                end(resource, now)
                callbacks.queue_deprovisioned(resource, now)
            case _:
                pass  # another process has done it


def _finish_provision(resource: Resource, now: datetime) -> None:
    """It stays pending until the platform knows: what it never heard of ends at the deadline."""
    for attachment in resource.attachments.filter(detached_at=None, shares_key=False):
        credentials.issue(attachment, now)
        callbacks.queue_config(attachment, now)
    resource.provisioned_at = now
    resource.save(update_fields=["provisioned_at"])
    callbacks.queue_provisioned(resource, now)


def give_up(resource_id: UUID, now: datetime) -> bool:
    """End a resource that the platform was not told of in time, and tell it that, if it listens;
    False when it was told."""
    with transaction.atomic():
        resource = _lock_row(resource_id)
        if resource.pending != Work.PROVISION:
            return False
        end(resource, now)
        callbacks.queue_deprovisioned(resource, now)
        return True


def confirm(resource_id: UUID) -> None:
    """The platform knows that the resource is provisioned."""
    Resource.objects.filter(id=resource_id, pending=Work.PROVISION).update(pending="")


def attach(resource_id: UUID, request: AttachmentRequest, now: datetime) -> Mapping[str, str]:
    """The config of one more attachment, with a key of its own.

    Raises ResourceNotFound, ResourceGone, ResourceNotReady, AttachmentGone, ContentDiffers.
    """
    with transaction.atomic():
        resource = lock_ready(resource_id)
        key = _attach(resource, request, now)
        return _config(resource, key, _get_plan(resource.plan_slug))


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


def _lock_row(resource_id: UUID) -> Resource:
    resource = Resource.objects.select_for_update().filter(id=resource_id).first()
    return check_live(resource, resource_id)


def check_live(resource: Resource | None, resource_id: UUID) -> Resource:
    """Raises ResourceNotFound, ResourceGone."""
    if resource is None:
        raise ResourceNotFound(f"There is no resource {resource_id}")
    if resource.deprovisioned_at is not None:
        raise ResourceGone(f"The resource {resource_id} was deprovisioned")
    return resource


def _lock(resource_id: UUID) -> Resource:
    resource = _lock_row(resource_id)
    if resource.pending == Work.DEPROVISION:
        raise ResourceGone(f"The resource {resource_id} is being deprovisioned")
    return resource


def lock_ready(resource_id: UUID) -> Resource:
    """Until the transaction ends nobody else changes it. Raises ResourceNotFound, ResourceGone,
    ResourceNotReady."""
    resource = _lock(resource_id)
    if resource.pending == Work.PROVISION:
        raise ResourceNotReady(f"The resource {resource_id} is still being provisioned")
    return resource


def _end(attachment: Attachment, now: datetime) -> None:
    credentials.revoke(attachment, now)
    attachment.detached_at = now
    attachment.save(update_fields=["detached_at"])
