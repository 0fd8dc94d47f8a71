"""The lifecycle of an add-on: four states, and a table that is the whole truth about them. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType


class State(StrEnum):
    PROVISIONING = "provisioning"
    PROVISIONED = "provisioned"
    DEPROVISIONING = "deprovisioning"
    DEPROVISIONED = "deprovisioned"


class Event(StrEnum):
    PROVIDER_PROVISIONED = "the provider provisioned it"
    PROVIDER_REFUSED = "the provider refused to provision it"
    ABANDONED = "the platform gave up on provisioning it"
    DESTROY_REQUESTED = "its owner destroyed it"
    PROVIDER_REMOVED = "the provider removed it"


class InvalidTransition(Exception):
    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"An add-on that is {state} cannot take the event: {event}")
        self.state = state
        self.event = event


TRANSITIONS: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.PROVISIONING, Event.PROVIDER_PROVISIONED): State.PROVISIONED,
        # Refused at once, so there is nothing at the provider to remove.
        (State.PROVISIONING, Event.PROVIDER_REFUSED): State.DEPROVISIONED,
        (State.PROVISIONING, Event.ABANDONED): State.DEPROVISIONING,
        (State.PROVISIONING, Event.DESTROY_REQUESTED): State.DEPROVISIONING,
        (State.PROVISIONED, Event.DESTROY_REQUESTED): State.DEPROVISIONING,
        (State.DEPROVISIONING, Event.PROVIDER_REMOVED): State.DEPROVISIONED,
        # By a call of the provider itself, which has nothing more to remove.
        (State.PROVISIONING, Event.PROVIDER_REMOVED): State.DEPROVISIONED,
        (State.PROVISIONED, Event.PROVIDER_REMOVED): State.DEPROVISIONED,
    }
)


def next_state(state: State, event: Event) -> State:
    """The state after `event`. Raises InvalidTransition for a pair that the table lacks."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(state, event) from None
