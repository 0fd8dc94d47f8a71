"""What a recorded command presupposes and no recorded answer tells.

A situation is brought about as a user or an operator would: an add-on more, a name more, a key that
was revoked. What Annex cannot or should not be brought to is in excused.toml.
"""

from collections.abc import Callable

from tests.recordings.worlds import (
    ACCOUNT,
    ADDON,
    ADDON_ID,
    SECOND_ADDON,
    AddonFact,
    AppFact,
    World,
)

FIRST_ADDON = AddonFact(id=ADDON_ID, name=ADDON, app="myapp")
NEW_COLLABORATOR = "new@example.com"

Situation = Callable[[World], None]


def has_the_addon(world: World) -> None:
    world.add(FIRST_ADDON)


def has_two_names(world: World) -> None:
    """For the only name of an add-on on its own app is neither detached nor overwritten."""
    world.add(FIRST_ADDON)
    world.attach(ADDON, "INFERENCE", "myapp")


def has_two_addons(world: World) -> None:
    world.add(FIRST_ADDON)
    world.add(SECOND_ADDON, "INFERENCE")


def is_shared(world: World) -> None:
    world.add(FIRST_ADDON)
    world.attach(ADDON, "SHARED", "otherapp")


def shared_is_taken(world: World) -> None:
    """Otherapp calls another add-on SHARED, and could do without that name."""
    theirs = AddonFact(id=SECOND_ADDON.id, name=SECOND_ADDON.name, app="otherapp")
    world.add(FIRST_ADDON)
    world.add(theirs, "PRO")
    world.attach(theirs.name, "SHARED", "otherapp")


def has_foo(world: World) -> None:
    world.config.setdefault("myapp", {})["FOO"] = "bar"


def has_a_collaborator(world: World) -> None:
    world.collaborators.add(("myapp", NEW_COLLABORATOR))


def myapp_is_anothers(world: World) -> None:
    """Who may only look at an app may not order add-ons for it."""
    world.apps["myapp"] = AppFact(
        id=world.apps["myapp"].id, name="myapp", owner="other@example.com"
    )
    world.collaborators.add(("myapp", ACCOUNT))


def new_collaborator_has_an_account(world: World) -> None:
    world.other_accounts.add(NEW_COLLABORATOR)


def inference_is_taken(world: World) -> None:
    """So that the default name of another attachment is one with a colour."""
    theirs = AddonFact(id=SECOND_ADDON.id, name=SECOND_ADDON.name, app="otherapp")
    world.add(theirs, "INFERENCE")


def has_another_authorization(world: World) -> None:
    world.authorizations.append("105a7bfa-34c3-476e-873a-b1ac3fdc12fb")


def was_used(world: World) -> None:
    world.usage = {"requests": 42, "embed_tokens": 123_456}


def has_no_requests_left(world: World) -> None:
    world.is_rate_limited = True


def database_is_away(world: World) -> None:
    world.is_database_away = True


def inference_key_is_revoked(world: World) -> None:
    world.is_inference_key_revoked = True


def inference_is_used_up(world: World) -> None:
    world.is_inference_used_up = True


def provider_refuses(world: World) -> None:
    world.refusal = "The plan is not available here."


def key_expires(world: World) -> None:
    world.does_key_expire = True


def key_is_revoked(world: World) -> None:
    world.is_key_revoked = True


SITUATIONS: dict[str, Situation] = {
    "access-add": new_collaborator_has_an_account,
    "access-remove": has_a_collaborator,
    "addons-attach-colons": inference_is_taken,
    "addons-attach-confirm": shared_is_taken,
    "addons-attach-confirmation-required": shared_is_taken,
    "addons-attach-default-name": inference_is_taken,
    "addons-create-confirm": has_two_names,
    "addons-create-confirm-wrong": has_two_names,
    "addons-create-confirmation-required-no-tty": has_two_names,
    "addons-create-confirmation-required-tty": has_two_names,
    "addons-destroy-attached-elsewhere-403": is_shared,
    "addons-destroy-force": is_shared,
    "addons-destroy-wrong-app": is_shared,
    "addons-detach": has_two_names,
    "addons-detach-empty-releases": has_two_names,
    "addons-info-fallback-global": has_the_addon,
    "addons-open-sudo-sso": has_the_addon,
    "addons-upgrade-ambiguous-422": has_two_addons,
    "ai-models-attach-confirm": shared_is_taken,
    "ai-models-call-error-401-other-id": inference_key_is_revoked,
    "ai-models-call-error-429": inference_is_used_up,
    "ai-models-create-confirm": has_two_names,
    "ai-models-create-confirmation-required-no-tty": has_two_names,
    "ai-models-create-confirmation-required-tty": has_two_names,
    "ai-models-destroy-attached-elsewhere": is_shared,
    "ai-models-destroy-force": is_shared,
    "any-command-401-with-netrc-no-tty": key_is_revoked,
    "any-command-not-logged-in-no-tty": key_is_revoked,
    "auth-token": key_expires,
    "authorizations-revoke": has_another_authorization,
    "config-set-addon-owned-422": has_the_addon,
    "config-unset": has_foo,
    "config-unset-addon-owned-422": has_the_addon,
    "error-401": key_is_revoked,
    "error-403-forbidden": myapp_is_anothers,
    "error-422-with-app-and-url": provider_refuses,
    "error-429-rate-limit": has_no_requests_left,
    "error-503": database_is_away,
    "ok-200-delete-attachment-empty": has_two_names,
    "usage-addons": was_used,
}


def bring_about(recording: str, world: World) -> None:
    """Complete the world of a recording by its situation, if it has one."""
    if recording in SITUATIONS:
        SITUATIONS[recording](world)
