"""A stand-in for the hub's HTTP API on 127.0.0.1, serving folders as repositories, with faults."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Smaller files are kept in git itself, and have no SHA-256 there.
LFS_FROM_BYTES = 20_000
CHUNK_BYTES = 65_536


@dataclass
class Hub:
    """What is served, what was asked for, and what goes wrong."""

    repositories: dict[str, Path] = field(default_factory=dict)
    commit: str = "c0ffee00" * 5
    url: str = ""
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    status: int | None = None  # of every answer
    error_code: str = ""
    drop_after_bytes: int | None = None  # once, in the first large file
    wrong_bytes: bool = False
    missing: str | None = None  # listed, and not there
    chunk_delay_s: float = 0.0

    def ranges(self, name: str) -> list[str | None]:
        """The Range headers of the requests for a file."""
        return [range_ for path, range_ in self.requests if path.endswith(f"/{name}")]


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: the requests are in the hub's list."""

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((path, self.headers.get("Range")))
        if self.hub.status is not None:
            self._send(self.hub.status, b"{}", {"X-Error-Code": self.hub.error_code})
        elif path.startswith("/api/models/"):
            repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self._describe(repository, revision)
        else:
            repository, _, rest = path[1:].partition("/resolve/")
            _, _, name = rest.partition("/")
            self._serve(repository, name)

    def _describe(self, repository: str, revision: str) -> None:
        folder = self.hub.repositories.get(repository)
        if folder is None:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif revision not in {"main", self.hub.commit}:
            self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        else:
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            siblings = [_sibling(folder, file) for file in files]
            body = {"id": repository, "sha": self.hub.commit, "siblings": siblings}
            self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _serve(self, repository: str, name: str) -> None:
        hub = self.hub
        folder = hub.repositories.get(repository)
        if folder is None:  # also what the client asks the hub of its own accord
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            return
        if name == hub.missing:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = (folder / name).read_bytes()
        if hub.wrong_bytes and len(content) >= LFS_FROM_BYTES:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") :].split("-")[0])
        headers = {"Content-Length": str(len(content) - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(206 if start else 200, b"", headers)
        sent = 0
        for at in range(start, len(content), CHUNK_BYTES):
            self.wfile.write(content[at : at + CHUNK_BYTES])
            sent += CHUNK_BYTES
            time.sleep(hub.chunk_delay_s)
            if hub.drop_after_bytes is not None and sent >= hub.drop_after_bytes:
                hub.drop_after_bytes = None
                self.close_connection = True
                return

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)


def _sibling(folder: Path, file: Path) -> dict[str, object]:
    """What the hub says of a file, in its own keys."""
    content = file.read_bytes()
    blob = b"blob %d\0" % len(content) + content
    sibling: dict[str, object] = {
        "rfilename": str(file.relative_to(folder)),
        "size": len(content),
        "blobId": hashlib.sha1(blob, usedforsecurity=False).hexdigest(),
    }
    if len(content) >= LFS_FROM_BYTES:
        sha256 = hashlib.sha256(content).hexdigest()
        sibling["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 134}
    return sibling
