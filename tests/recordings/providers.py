"""Who is behind the service in a replay, and how what it has under way comes to its end."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tests.addon.platform.bad_provider import BadProvider
from tests.recordings.recorded import Recording, Request

if TYPE_CHECKING:
    from addon.platform.models import Addon, Attachment

CONFIG = {
    "INFERENCE_URL": "https://127.0.0.1",
    "INFERENCE_KEY": "inf-00000000-0000-0000-0000-000000000000",
}
UNDER_WAY = {"provisioning", "deprovisioning"}


@dataclass(frozen=True, kw_only=True)
class StandIn:
    """A provider over real HTTP that does what the recorded answers tell of theirs."""

    server: BadProvider

    @property
    def url(self) -> str:
        return self.server.url

    def config_of(self, addon: Addon, attachment: Attachment) -> Mapping[str, str]:
        return {**CONFIG, "INFERENCE_MODEL_ID": addon.plan.model_id}

    def is_prompt(self, message: str = "") -> None:
        config = {**CONFIG, "INFERENCE_MODEL_ID": "cohere-embed-multilingual"}
        self.server.will("POST", 201, {"id": "1", "config": config, "message": message})
        self.server.will("PUT", 200, {"config": config})
        self.server.will("DELETE", 204)

    def is_slow(self) -> None:
        self.is_prompt()
        self.server.will("POST", 202, {"id": "1"})
        self.server.will("DELETE", 500)

    def refuses(self, message: str) -> None:
        self.server.will("POST", 422, {"message": message})


@dataclass(frozen=True, kw_only=True)
class OwnProvider:
    """Annex's own, with resources and keys that work."""

    url: str

    def config_of(self, addon: Addon, attachment: Attachment) -> Mapping[str, str]:
        from addon.provider.models import Resource
        from addon.provider.provisioning import (
            AttachmentRequest,
            Provisioned,
            ProvisionRequest,
            attach,
            provision,
        )

        wanted = AttachmentRequest(
            id=uuid.UUID(str(attachment.id)), name=attachment.name, app_name=attachment.app.name
        )
        addon_id = uuid.UUID(str(addon.id))
        if Resource.objects.filter(id=addon_id).exists():
            return attach(addon_id, wanted, addon.created_at)
        request = ProvisionRequest(
            uuid=addon_id,
            name=addon.name,
            plan_slug=addon.plan.slug,
            region="amazon-web-services::us-east-1",
            options={},
            callback_url="",
            attachment=wanted,
        )
        provisioned = provision(request, addon.created_at)
        assert isinstance(provisioned, Provisioned)
        return provisioned.config


def is_slow(recording: Recording) -> bool:
    return any(state_told(request) in UNDER_WAY for request in recording.requests)


def state_told(request: Request) -> str:
    """The state of the add-on that an answer is about; "gone" of a 404."""
    if request.status == 404:
        return "gone"
    answers = request.answer if isinstance(request.answer, list) else [request.answer]
    states = [str(answer["state"]) for answer in answers if _is_addon(answer)]
    return states[0] if len(states) == 1 else ""


def _is_addon(answer: object) -> bool:
    return isinstance(answer, dict) and {"addon_service", "state"} <= answer.keys()


def finish(state: str, stand_in: StandIn, now: datetime) -> None:
    """What is under way with an add-on ends in `state`, as its provider sees it through."""
    from addon.lifecycle import State
    from addon.platform import provisioning
    from addon.platform.models import Addon

    waiting = Addon.objects.filter(state__in=UNDER_WAY)
    addon = waiting.select_related("app__owner", "service", "plan").first()
    if addon is None or state == addon.state:
        return
    stand_in.is_prompt()
    is_new = addon.state == State.PROVISIONING
    if is_new and state == "provisioned":
        attachment = addon.attachments.select_related("app").get()
        provisioning.drive_provisioning(addon, attachment, addon.app.owner, now)
    elif is_new and state == "deprovisioned":
        provisioning.abandon(addon, addon.app.owner, now)
    elif not is_new and state == "gone":
        provisioning.drive_deprovisioning(addon, now)
