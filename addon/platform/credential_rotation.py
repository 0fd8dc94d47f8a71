"""Rotation of credentials, asked of the provider: an extension of the Partner API.

Nothing changes here: the provider calls back with the config vars, as it does when it rotates by
itself.
"""

from typing import assert_never

from addon.lifecycle import State
from addon.platform import provider_client
from addon.platform.addons import AddonNotReady
from addon.platform.models import Addon, Attachment
from addon.platform.provider_client import Accepted, Done, Gone, Refused, Uncertain


class RotationNotSupported(Exception):
    """The provider cannot be asked to."""


class RotationRefused(Exception):
    """The provider will not; its message is for the user."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.status = refused.status


class RotationFailed(Exception):
    """The provider gave no clear answer; it is safe to ask again."""


def rotate(addon: Addon, attachment: Attachment | None, overlap_s: int | None) -> None:
    """The credentials of `attachment`, or all of the add-on's; the provider's own overlap unless
    one is given.

    Raises AddonNotReady, RotationNotSupported, RotationRefused, RotationFailed.
    """
    if addon.state != State.PROVISIONED:
        raise AddonNotReady(f"{addon.name} is {addon.state}; it has keys when it is provisioned")
    if attachment is not None and not addon.service.attachment_credentials:
        raise RotationNotSupported(
            f"The attachments of {addon.name} have the same credentials; leave attachment out"
        )
    reply = provider_client.rotate_credentials(addon, attachment, overlap_s)
    match reply:
        case Done() | Accepted():
            return
        case Refused():
            raise RotationRefused(reply)
        case Gone():
            raise RotationNotSupported(
                f"The provider of {addon.name} does not rotate credentials when it is asked to"
            )
        case Uncertain():
            raise RotationFailed(
                f"The provider of {addon.name} could not be reached or did not answer as "
                "expected; please try again"
            )
        case _:
            assert_never(reply)
