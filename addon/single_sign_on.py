"""The tokens of single sign-on: what a platform signs, and a provider checks. Pure.

Both know the salt of the manifest. Source: Heroku's articles on add-on single sign-on; the token of
today binds the user, the older ones do not.
"""

import hashlib


def user_scoped_resource_token(
    resource_id: str, salt: str, timestamp: str, user_id: str, email: str
) -> str:
    """SHA-256, in hex, over what the form says of the resource, the moment and the user."""
    text = f"{resource_id}:{salt}:{timestamp}:{user_id}:{email}"
    return hashlib.sha256(text.encode()).hexdigest()


def resource_token(resource_id: str, salt: str, timestamp: str) -> str:
    """SHA-1, in hex; of the provider's id of the resource it is the `token` of version 1."""
    text = f"{resource_id}:{salt}:{timestamp}"
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
