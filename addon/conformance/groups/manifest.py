"""What the manifest says. That it is valid at all is read before anything runs."""

from urllib.parse import urlsplit

from addon.conformance.checks import Failed, Skipped, Warned, check
from addon.conformance.run import Run

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
SECRET_MIN_CHARACTERS = 16


@check(
    "manifest.valid",
    "the manifest has every field in its form",
    "Heroku refuses to push a manifest with a field missing or misspelt.",
)
def valid(run: Run) -> None:
    """Whoever comes here has a manifest that was parsed."""


@check(
    "manifest.https",
    "its production URLs are https",
    "Provision requests carry the password, and answers carry customers' keys.",
)
def https(run: Run) -> None:
    production = run.subject.document["api"]["production"]
    for name in ("base_url", "sso_url"):
        url = urlsplit(str(production.get(name) or "https://none.example"))
        if url.scheme == "http" and url.hostname in LOCAL_HOSTS:
            raise Skipped(f"api.production.{name} is of this machine")
        if url.scheme != "https":
            raise Failed(f"api.production.{name} is {url.scheme}; Heroku calls https only")


@check(
    "manifest.no-username",
    "it has no api.username",
    "The user of Basic authentication is the id; a username is ignored, or refused.",
)
def no_username(run: Run) -> None:
    if "username" in run.subject.document["api"]:
        raise Failed("api.username is there")


@check(
    "manifest.secrets",
    "its password and SSO salt are long, and differ",
    "Who guesses the password deletes customers' databases; who guesses the salt logs in as them.",
)
def secrets(run: Run) -> None:
    password, salt = run.manifest.password, run.manifest.sso_salt
    short = [
        name
        for name, secret in (("api.password", password), ("api.sso_salt", salt))
        if secret is not None and len(secret) < SECRET_MIN_CHARACTERS
    ]
    if short:
        raise Warned(f"{' and '.join(short)}: fewer than {SECRET_MIN_CHARACTERS} characters")
    if password == salt:
        raise Failed("api.password and api.sso_salt are the same")


@check(
    "manifest.regions",
    "its regions have us, or are all of them",
    "Heroku's own test tool wants that; an add-on of eu alone may have to be asked for.",
)
def regions(run: Run) -> None:
    if not {"us", "*"} & set(run.manifest.regions):
        raise Warned(f"api.regions has {', '.join(run.manifest.regions)} only")


@check(
    "manifest.sso",
    "the SSO salt and the SSO URL come together",
    "With one of them only, `heroku addons:open` leads nowhere.",
)
def sso(run: Run) -> None:
    salt, url = run.manifest.sso_salt, run.manifest.sso_url
    if salt is None and url is None:
        raise Skipped("the manifest has no sso_salt and no sso_url")
    if salt is None or url is None:
        missing = "api.sso_salt" if salt is None else "sso_url"
        raise Failed(f"{missing} is missing")
