"""A browser that agrees: `heroku login --browser` starts it with an address, and it logs in there.

python -m tests.e2e.browser EMAIL PASSWORD DECISION ADDRESS
"""

import re
import sys

import httpx

TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


def decide(email: str, password: str, decision: str, address: str) -> None:
    with httpx.Client(follow_redirects=True, trust_env=False) as browser:
        page = browser.get(address)
        fields = {"email": email, "password": password, "next": page.url.params["next"]}
        page = browser.post(page.url.join("/login"), data=fields | _token(page))
        page = browser.post(page.url, data={"decision": decision} | _token(page))
        page.raise_for_status()


def _token(page: httpx.Response) -> dict[str, str]:
    found = TOKEN.search(page.text)
    assert found is not None, page.text
    return {"csrfmiddlewaretoken": found[1]}


if __name__ == "__main__":
    decide(*sys.argv[1:])
