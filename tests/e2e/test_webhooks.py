"""What docs/webhooks.md says of Node is so."""

import base64
import hmac
import json
import re
import subprocess

from tests.e2e.annex import ROOT

BODY = b'{"action":"create","actor":{"email":"m\xc3\xbcller@example.com"}}'


def test_the_node_snippet_knows_what_annex_signs_and_nothing_else() -> None:
    page = (ROOT / "docs" / "webhooks.md").read_text()
    found = re.search(r"```javascript\n(.*?)```", page, re.DOTALL)
    assert found is not None
    signature = base64.b64encode(hmac.digest(b"sesame", BODY, "sha256")).decode()
    body = f"Buffer.from({json.dumps(base64.b64encode(BODY).decode())}, 'base64')"
    calls = [
        f"isGenuine('sesame', {body}, {json.dumps(signature)})",
        f"isGenuine('other', {body}, {json.dumps(signature)})",
        f"isGenuine('sesame', Buffer.concat([{body}, Buffer.from(' ')]), {json.dumps(signature)})",
        f"isGenuine('sesame', {body}, '')",
    ]
    done = subprocess.run(
        ["node", "--eval", f"{found[1]}\nconsole.log(JSON.stringify([{', '.join(calls)}]));"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert json.loads(done.stdout) == [True, False, False, False]
