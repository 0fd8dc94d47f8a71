"""What the page of a resource shows: its plan, its attachments with the ends of their keys, and
what was used of it this month."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from addon.config_names import config_var_name
from addon.provider.endpoints import endpoint_of
from addon.provider.manifest import CONFIG_VARS_PREFIX
from addon.provider.models import Attachment, Credential, Resource
from addon.provider.provisioning import check_live
from billing.periods import Period, month_of
from billing.plans import default_model_id, find_plan
from billing.subscriptions import find_customer_id
from billing.sums import usage_between


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownKey:
    """`hint` is how the key starts. `expires_at` is None of the one that config vars have."""

    hint: str
    created_at: datetime
    expires_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownAttachment:
    """One with keys; `sharing` are those that have no keys of their own."""

    id: UUID
    name: str
    app: str
    keys: Sequence[ShownKey]
    sharing: Sequence[str]

    @property
    def url_var(self) -> str:
        return self._var("URL")

    @property
    def key_var(self) -> str:
        return self._var("KEY")

    @property
    def model_var(self) -> str:
        return self._var("MODEL_ID")

    def _var(self, end: str) -> str:
        return config_var_name(self.name, CONFIG_VARS_PREFIX, f"{CONFIG_VARS_PREFIX}_{end}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelUsage:
    model_id: str
    requests: int
    inputs: int
    text_tokens: int
    image_tokens: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ResourcePage:
    resource: Resource
    plan_name: str
    model_id: str
    url: str
    attachments: Sequence[ShownAttachment]
    month: Period
    usage: Sequence[ModelUsage]


def get_live(resource_id: UUID) -> Resource:
    """Raises ResourceNotFound, ResourceGone."""
    return check_live(Resource.objects.filter(id=resource_id).first(), resource_id)


def describe(resource: Resource, now: datetime) -> ResourcePage:
    plan = find_plan(settings.ADDON_SERVICE_NAME, resource.plan_slug)
    month = month_of(now)
    return ResourcePage(
        resource=resource,
        plan_name=resource.plan_slug if plan is None else plan.human_name,
        model_id="" if plan is None else default_model_id(plan, resource.options),
        url=endpoint_of(resource.region),
        attachments=_attachments(resource, now),
        month=month,
        usage=_usage(resource, month),
    )


def _attachments(resource: Resource, now: datetime) -> list[ShownAttachment]:
    live = resource.attachments.filter(detached_at=None).order_by("created_at", "id")
    rows = live.filter(shares_key=False)
    sharing = [str(row) for row in live.filter(shares_key=True)]
    keys: dict[UUID, list[ShownKey]] = {row.id: [] for row in rows}
    for credential in Credential.objects.live(now).filter(attachment__in=keys).defer("key"):
        keys[credential.attachment_id].append(_shown_key(credential))
    return [_shown(row, keys[row.id], sharing) for row in rows]


def _shown(
    attachment: Attachment, keys: Sequence[ShownKey], sharing: Sequence[str]
) -> ShownAttachment:
    return ShownAttachment(
        id=attachment.id,
        name=attachment.name,
        app=attachment.app_name,
        keys=keys,
        sharing=sharing,
    )


def _shown_key(credential: Credential) -> ShownKey:
    return ShownKey(
        hint=credential.hint, created_at=credential.created_at, expires_at=credential.expires_at
    )


def _usage(resource: Resource, month: Period) -> list[ModelUsage]:
    customer_id = find_customer_id(resource.id) or resource.id
    amounts: dict[str, Counter[str]] = {}
    for used in usage_between(customer_id, month.start_at, month.end_at):
        if used.resource_id == resource.id:
            counter = amounts.setdefault(used.model_id, Counter())
            for name in ("requests", "inputs", "text_tokens", "image_tokens"):
                counter[name] += getattr(used, name)
    return _by_model(amounts.items())


def _by_model(amounts: Iterable[tuple[str, Counter[str]]]) -> list[ModelUsage]:
    return [ModelUsage(model_id=model_id, **counter) for model_id, counter in sorted(amounts)]
