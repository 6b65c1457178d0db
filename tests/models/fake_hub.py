"""A hub of one repository, served from a folder on this machine."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What was asked for."""

    address: str = ""
    sent: dict[str, int] = field(default_factory=dict)
    """File -> bytes of it that were sent."""


@contextmanager
def serve(  # noqa: C901 (each answer of the hub is one method)
    folder: Path, repository: str, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> Iterator[Hub]:
    """Serve a folder as `repository` at the branch `main`, and point huggingface_hub to it."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0].strip("/")
            if path.startswith(f"api/models/{repository}"):
                revision = path.partition("/revision/")[2] or "main"
                self._send(*self._info(revision), {}, body)
            elif path.startswith(f"{repository}/resolve/"):
                revision, _, name = path.removeprefix(f"{repository}/resolve/").partition("/")
                self._file(revision, name, body)
            else:
                self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, body)

        def _info(self, revision: str) -> tuple[int, bytes]:
            if revision not in ("main", COMMIT):
                return 404, b"RevisionNotFound"
            return 200, json.dumps({"id": repository, "sha": COMMIT, "siblings": []}).encode()

        def _file(self, revision: str, name: str, body: bool) -> None:
            file = folder / name
            if revision not in ("main", COMMIT):
                return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body)
            if not file.is_file():
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, body)
            content, status = file.read_bytes(), 200
            if "Range" in self.headers:
                first, last = self.headers["Range"].removeprefix("bytes=").split("-")
                content, status = content[int(first) : int(last) + 1], 206
            if body:
                hub.sent[name] = hub.sent.get(name, 0) + len(content)
            return self._send(status, content, {"X-Repo-Commit": COMMIT, "ETag": f'"{name}"'}, body)

        def _send(self, status: int, content: bytes, headers: dict[str, str], body: bool) -> None:
            if content == b"RevisionNotFound":
                headers = {"X-Error-Code": "RevisionNotFound"}
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
