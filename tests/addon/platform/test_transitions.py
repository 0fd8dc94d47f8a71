import uuid

import pytest
from django.utils import timezone

from addon.lifecycle import Event, InvalidTransition, State
from addon.platform.models import Addon, AddonService, App, AttachmentState
from addon.platform.transitions import ConcurrentChange, move, move_attachment
from tests.addon.platform.helpers import Api, only_addon

NOW = timezone.now()


@pytest.fixture
def addon(api: Api, shop: App, provider: AddonService) -> Addon:
    api.add("shop", "EMBEDDING")
    return only_addon()


def test_a_move_changes_the_row_and_the_object(addon: Addon) -> None:
    move(addon, Event.DESTROY_REQUESTED, NOW, last_error="why")
    for row in (addon, only_addon()):
        assert (row.state, row.last_error) == (State.DEPROVISIONING, "why")
        assert row.updated_at == NOW


def test_of_two_who_saw_the_same_state_one_moves(addon: Addon) -> None:
    other = only_addon()
    move(addon, Event.DESTROY_REQUESTED, NOW)
    with pytest.raises(ConcurrentChange, match=addon.name):
        move(other, Event.DESTROY_REQUESTED, NOW, last_error="lost")
    assert only_addon().last_error == ""
    assert other.state == State.PROVISIONED


def test_what_the_table_lacks_is_refused_without_a_write(addon: Addon) -> None:
    with pytest.raises(InvalidTransition):
        move(addon, Event.PROVIDER_PROVISIONED, NOW)
    assert only_addon().updated_at != NOW


def test_a_row_that_is_gone_is_a_concurrent_change(addon: Addon) -> None:
    addon.id = uuid.uuid4()
    with pytest.raises(ConcurrentChange):
        move(addon, Event.DESTROY_REQUESTED, NOW)


def test_an_attachment_moves_once(addon: Addon) -> None:
    one, other = addon.attachments.get(), addon.attachments.get()
    move_attachment(one, AttachmentState.DETACHING, NOW, next_attempt_at=NOW)
    with pytest.raises(ConcurrentChange):
        move_attachment(other, AttachmentState.DETACHING, NOW, next_attempt_at=None)
    row = addon.attachments.get()
    assert (row.state, row.next_attempt_at) == ("detaching", NOW)
