"""The id of what a request creates: the same when the client sends that request again.

After a broken connection the heroku CLI repeats any request, a POST too, with the same Request-Id:
a list whose first element is a UUID of this one call.
"""

import json
from hashlib import sha256
from uuid import UUID, uuid4, uuid5

from addon.json_api import find_uuid


def creation_id(account_id: UUID, request_ids: str, method: str, path: str, body: object) -> UUID:
    """`request_ids` is the header; without a UUID at its head every request is a new one."""
    first = find_uuid(request_ids.partition(",")[0].strip())
    if first is None:
        return uuid4()
    content = json.dumps(body, sort_keys=True, separators=(",", ":"))
    digest = sha256(content.encode()).hexdigest()
    return uuid5(account_id, f"{first} {method} {path} {digest}")
