"""A server on this machine that answers as the hub and GitHub do, for repositories made up in a test."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
#: Of a user who has accepted every license.
TOKEN = "hf_accepted"


class Hub:
    """Files by repository, all at COMMIT; a data set's repository is written ``datasets/owner/name``."""

    def __init__(self) -> None:
        self.address = ""
        self.repositories: dict[str, dict[str, bytes]] = {}
        #: Stored as large files, for which the hub states a SHA-256.
        self.large = (".safetensors", ".bin", ".parquet")
        #: What is sent in place of a file, though the hub states the file's own checksum.
        self.sent_instead: dict[str, bytes] = {}
        #: Repositories behind a license: the status with which their files are refused, unless TOKEN comes along; and
        #: whether their listing, which the hub shows to everybody, is refused as well.
        self.gated: dict[str, int] = {}
        self.hides_listing = False
        #: The name of a file that is sent in half; then the answer waits.
        self.stalled = ""
        self.waiting, self.go_on = threading.Event(), threading.Event()
        #: How often a file was sent, by its name, and the path of every request.
        self.sent: Counter[str] = Counter()
        self.requested_paths: list[str] = []

    def listing(self, repository: str) -> dict[str, Any]:
        files = [self._sibling(name, data) for name, data in self.repositories[repository].items()]
        return {"id": repository.removeprefix("datasets/"), "sha": COMMIT, "siblings": files}

    def _sibling(self, name: str, data: bytes) -> dict[str, Any]:
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        facts: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git}
        if name.endswith(self.large):
            facts["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return facts

    def tree(self, repository: str) -> list[dict[str, Any]]:
        """The same as the client asks for it that fills its own cache."""
        entries: list[dict[str, Any]] = []
        for sibling in (self._sibling(name, data) for name, data in self.repositories[repository].items()):
            size, large = sibling["size"], {}
            if "lfs" in sibling:
                large = {"lfs": {"oid": sibling["lfs"]["sha256"], "size": size, "pointerSize": 134}}
            entry = {"type": "file", "path": sibling["rfilename"], "oid": sibling["blobId"], "size": size}
            entries.append(entry | large)
        return entries

    def etag(self, name: str, data: bytes) -> str:
        sibling = self._sibling(name, data)
        return str(sibling["lfs"]["sha256"] if "lfs" in sibling else sibling["blobId"])


@contextmanager
def running() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = self.path.partition("?")[0].strip("/")
            hub.requested_paths.append(path)
            for repository, files in hub.repositories.items():
                api = repository if repository.startswith("datasets/") else f"models/{repository}"
                listings = {f"api/{api}/revision/{COMMIT}": hub.listing, f"api/{api}/tree/{COMMIT}": hub.tree}
                is_protected = path.startswith(f"{repository}/") or (path in listings and hub.hides_listing)
                accepted = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                if is_protected and repository in hub.gated and not accepted:
                    self.send(b"{}", body, {"X-Error-Code": "GatedRepo"}, status=hub.gated[repository])
                    return
                if path in listings:
                    self.send(
                        json.dumps(listings[path](repository)).encode(), body, {"Content-Type": "application/json"}
                    )
                    return
                for prefix in (f"{repository}/resolve/{COMMIT}/", f"{repository}/{COMMIT}/"):
                    name = path.removeprefix(prefix)
                    if path.startswith(prefix) and name in files:
                        data = hub.sent_instead.get(name, files[name])
                        headers = {"ETag": f'"{hub.etag(name, files[name])}"', "X-Repo-Commit": COMMIT}
                        hub.sent[name] += body
                        self.send(data, body, headers, stall=body and name == hub.stalled)
                        return
            self.send(b"{}", body, {"X-Error-Code": "EntryNotFound"}, status=404)

        def send(
            self, data: bytes, body: bool, headers: dict[str, str], status: int = 200, stall: bool = False
        ) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if not body:
                return
            if stall:
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                hub.waiting.set()
                hub.go_on.wait(60)
                self.close_connection = True
                return
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()
