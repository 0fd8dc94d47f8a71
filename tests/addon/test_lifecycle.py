import pytest
from hypothesis import given
from hypothesis import strategies as st

from addon.lifecycle import TRANSITIONS, Event, InvalidTransition, State, next_state

EVENTS = st.lists(st.sampled_from(Event), max_size=12)


@given(state=st.sampled_from(State), event=st.sampled_from(Event))
def test_every_pair_is_either_in_the_table_or_refused(state: State, event: Event) -> None:
    if (state, event) in TRANSITIONS:
        assert next_state(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(InvalidTransition, match=state):
            next_state(state, event)


@given(events=EVENTS)
def test_an_addon_never_goes_back(events: list[Event]) -> None:
    order = list(State)
    state = State.PROVISIONING
    for event in events:
        try:
            after = next_state(state, event)
        except InvalidTransition:
            continue
        assert order.index(after) > order.index(state)
        state = after


@given(event=st.sampled_from(Event))
def test_nothing_happens_to_a_deprovisioned_addon(event: Event) -> None:
    with pytest.raises(InvalidTransition):
        next_state(State.DEPROVISIONED, event)


@pytest.mark.parametrize("state", [State.PROVISIONING, State.PROVISIONED])
def test_a_live_addon_can_be_destroyed(state: State) -> None:
    assert next_state(state, Event.DESTROY_REQUESTED) is State.DEPROVISIONING


def test_a_provisioned_addon_is_never_given_up_by_itself() -> None:
    for event in (Event.PROVIDER_REFUSED, Event.ABANDONED):
        with pytest.raises(InvalidTransition):
            next_state(State.PROVISIONED, event)
