"""The command: `python -m addon.conformance MANIFEST`, and `manage.py addons test MANIFEST`.

Ends with 0, with 1 when a check failed, with 2 for wrong usage, and with 130 after Ctrl-C.
"""

import copy
import json
import os
import signal
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from addon.conformance import groups
from addon.conformance.checks import CHECKS, Check, Result, Status
from addon.conformance.platform_server import CannotListen, PlatformServer
from addon.conformance.report import LineReport, as_json
from addon.conformance.run import Run, Subject, run_checks
from addon.manifest import InvalidManifest, Manifest, parse_manifest

# kensa's port, which providers may be set up for already.
LISTEN = ("127.0.0.1", 7779)
DEFAULT_PLAN = "test"  # the first plan of every add-on at Heroku
GROUPS = tuple(dict.fromkeys(check.group for check in CHECKS))
INTERRUPTED = 130
SECONDS_MAX = 86_400

__all__ = ["groups"]


class WrongUsage(Exception):
    """The command cannot be carried out as it was given."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("manifest", metavar="MANIFEST", nargs="?", help="addon-manifest.json")
    parser.add_argument("--test", action="store_true", help="the URLs of api.test, not production")
    parser.add_argument("--base-url", metavar="URL", help="in place of the manifest's base_url")
    parser.add_argument("--sso-url", metavar="URL", help="in place of the manifest's sso_url")
    parser.add_argument("--plan", help=f"to provision (the manifest's default, or {DEFAULT_PLAN})")
    parser.add_argument("--change-to", metavar="PLAN", help="the plan to change to")
    parser.add_argument("--async-plan", metavar="PLAN", help="one that is answered 202")
    parser.add_argument(
        "--option", metavar="NAME=VALUE", action="append", type=_option, default=[],
        help="sent with every provision; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--only", metavar="GROUP", action="append", default=[],
        help=f"a group or a check's id; may be repeated. Groups: {', '.join(GROUPS)}",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="list the checks, and test nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON document at the end")
    parser.add_argument(
        "--listen", metavar="HOST:PORT", type=_address,
        help=f"where the suite listens as the platform ({LISTEN[0]}:{LISTEN[1]}, or a free port)",
    )  # fmt: skip
    parser.add_argument(
        "--platform-url", metavar="URL", help="where the provider reaches that (http://HOST:PORT)"
    )
    parser.add_argument(
        "--client-secret", default=os.environ.get("ADDON_CLIENT_SECRET"), metavar="SECRET",
        help="that the provider must exchange grants with (ADDON_CLIENT_SECRET; else any)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, default=25.0, help="of a request (25)"
    )
    parser.add_argument(
        "--callbacks-within", metavar="SECONDS", type=_seconds, default=60.0,
        help="how long to wait for a callback (60)",
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    parser = ArgumentParser("python -m addon.conformance", description=__doc__)
    add_arguments(parser)
    return run(vars(parser.parse_args(arguments)))


def run(options: Mapping[str, Any]) -> int:
    try:
        with _stopped_by_signals():
            return _run(options)
    except WrongUsage as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(options: Mapping[str, Any]) -> int:
    checks = _selected(options["only"])
    if options["list"]:
        for check in checks:
            sys.stdout.write(f"{check.id}: {check.title}. {check.why}\n")
        return 0
    document = _read(options["manifest"])
    try:
        subject = _subject(document, options)
    except InvalidManifest as error:
        return _invalid(error, options)
    platform = _platform(subject.manifest, options)
    platform.start()
    try:
        return _test(subject, platform, checks, as_json_only=options["json"])
    finally:
        platform.stop()


def _test(
    subject: Subject, platform: PlatformServer, checks: Sequence[Check], *, as_json_only: bool
) -> int:
    suite = Run(subject, platform)
    out = sys.stderr if as_json_only else sys.stdout
    out.write(_heading(subject, platform))
    report = LineReport(out, sys.stderr, len(checks))
    try:
        results = run_checks(suite, checks, report.start, report.result)
    except KeyboardInterrupt:
        left = ", ".join(suite.left_behind)
        said = f"to be removed by hand: {left}" if left else "what was provisioned is gone again"
        sys.stderr.write(f"\nInterrupted; {said}\n")
        raise
    report.end(results)
    if as_json_only:
        sys.stdout.write(f"{as_json(subject, results, suite.left_behind)}\n")
    return int(any(result.status == Status.FAILED for result in results))


def _heading(subject: Subject, platform: PlatformServer) -> str:
    change = f", change to {subject.other_plan}" if subject.other_plan else ""
    asynchronous = f", asynchronous {subject.async_plan}" if subject.async_plan else ""
    return (
        f"{subject.manifest.id} at {subject.manifest.base_url}\n"
        f"plan {subject.plan}{change}{asynchronous}; the platform is {platform.url}\n"
    )


def _invalid(error: InvalidManifest, options: Mapping[str, Any]) -> int:
    """Without a manifest there is nothing to ask, and nobody to ask it."""
    (check,) = [check for check in CHECKS if check.id == "manifest.valid"]
    result = Result(check=check, status=Status.FAILED, detail=str(error))
    if options["json"]:
        row = {"id": check.id, "status": result.status, "detail": result.detail}
        sys.stdout.write(f"{json.dumps({'checks': [row]}, indent=2)}\n")
    else:
        report = LineReport(sys.stdout, sys.stderr, 1)
        report.result(result)
        report.end([result])
    return 1


def _selected(only: Sequence[str]) -> list[Check]:
    known = {check.id for check in CHECKS} | {*GROUPS}
    for name in only:
        if name not in known:
            raise WrongUsage(f"--only {name}: there is no such group; {', '.join(GROUPS)}")
    wanted = {*only, "cleanup"} if only else known
    return [check for check in CHECKS if check.id in wanted or check.group in wanted]


def _read(path: str | None) -> dict[str, Any]:
    if path is None:
        raise WrongUsage("name the manifest: addon-manifest.json")
    try:
        document = json.loads(Path(path).read_text())
    except OSError as error:
        raise WrongUsage(f"{path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise WrongUsage(f"{path} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise WrongUsage(f"{path} is no JSON object")
    return document


def _subject(document: Mapping[str, Any], options: Mapping[str, Any]) -> Subject:
    """Raises InvalidManifest."""
    manifest = parse_manifest(pointed_at(document, options))
    plan = options["plan"] or _default_plan(manifest)
    declared_async = [each.slug for each in manifest.plans if each.is_async]
    others = [each.slug for each in manifest.plans if each.slug != plan and not each.is_async]
    return Subject(
        document=document,
        manifest=manifest,
        plan=plan,
        other_plan=options["change_to"] or next(iter(others), None),
        async_plan=options["async_plan"] or next(iter(declared_async), None),
        options=dict(options["option"]),
        timeout_s=options["timeout"],
        callbacks_within_s=options["callbacks_within"],
    )


def _default_plan(manifest: Manifest) -> str:
    return next((plan.slug for plan in manifest.plans if plan.is_default), DEFAULT_PLAN)


def pointed_at(document: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the URLs that are to be tested as its production ones.

    Raises InvalidManifest.
    """
    pointed = copy.deepcopy(dict(document))
    api = pointed.get("api")
    if not isinstance(api, dict):
        return pointed
    if options["test"]:
        test = api.get("test")
        if test is None:
            raise InvalidManifest("api.test", "an object with base_url, for --test")
        api["production"] = {"base_url": test} if isinstance(test, str) else test
    urls = {"base_url": options["base_url"], "sso_url": options["sso_url"]}
    given = {name: url for name, url in urls.items() if url is not None}
    if given and isinstance(api.get("production"), dict):
        api["production"] |= given
    return pointed


def _platform(manifest: Manifest, options: Mapping[str, Any]) -> PlatformServer:
    """Listens where it was told, else at the usual address, else at a free port of it."""
    wanted = options["listen"]
    for host, port in [wanted] if wanted else [LISTEN, (LISTEN[0], 0)]:
        try:
            return PlatformServer(
                host,
                port,
                service_name=manifest.id,
                config_vars=manifest.config_vars,
                client_secret=options["client_secret"],
                public_url=options["platform_url"],
            )
        except CannotListen as error:
            refused = str(error)
    raise WrongUsage(f"--listen {refused}")


def _option(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= SECONDS_MAX:  # nor NaN
        raise ArgumentTypeError(f"must be a number over 0, up to {SECONDS_MAX}")
    return seconds


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ArgumentTypeError("must be HOST:PORT")
    return host.strip("[]"), int(port)


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end the run as Ctrl-C does: after the cleaning."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_ENDING = (signal.SIGTERM, signal.SIGHUP)
