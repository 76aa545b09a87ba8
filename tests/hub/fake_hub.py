"""A model hub on this machine: as much of the hub's HTTP interface as its client uses for pushing and fetching models.

Repositories live in memory: branches of commits, each a mapping of names to contents. Large files go the way of Git LFS
(batch, PUT, verify), as the client does without hf_xet. `faults` makes chosen requests fail.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_ofTheTestsOnly"
CLOSED = 0
"""A status that stands for a connection that is closed without an answer."""


@dataclass
class Repository:
    """One repository: commits by hash, and the newest of each branch."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str = "") -> str:
        content = repr((sorted(files), len(self.commits))).encode() + b"".join(files[name] for name in sorted(files))
        sha = hashlib.sha1(content).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def files(self, revision: str) -> dict[str, bytes] | None:
        return self.commits.get(self.branches.get(revision, revision))


@dataclass
class FakeHub:
    """What is at the hub, what was asked of it, and what is to fail.

    Attributes:
        owner: whose token `TOKEN` is.
        faults: [pattern of "METHOD path", status, how many times]; `CLOSED` closes the connection.
        uploads: bytes of each LFS object that came.
    """

    owner: str = "me"
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    faults: list[list[Any]] = field(default_factory=list)
    uploads: list[int] = field(default_factory=list)
    url: str = ""

    def fault(self, request: str) -> int | None:
        for one in self.faults:
            if one[2] > 0 and re.search(one[0], request):
                one[2] -= 1
                return int(one[1])
        return None


def _is_lfs(path: str) -> bool:
    return path.endswith((".safetensors", ".gguf", ".pth", ".bin"))


def _git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a body may wait 40 ms behind its headers

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET

    def _serve(self) -> None:
        path = urlsplit(self.path).path
        request = f"{self.command} {path}"
        self.hub.requests.append(request)
        length = int(self.headers.get("Content-Length") or 0)
        body = self._chunks() if self.headers.get("Transfer-Encoding") == "chunked" else self.rfile.read(length)
        if (status := self.hub.fault(request)) is not None:
            if status == CLOSED:
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self._answer(status, {"error": "it was told to fail"})
            return
        for pattern, method in _ROUTES:
            if match := re.fullmatch(pattern, request):
                method(self, body, *[unquote(part) if part else part for part in match.groups()])
                return
        self._answer(404, {"error": f"no such address: {request}"})

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        raw = isinstance(content, bytes)
        body = content if raw else json.dumps({} if content is None else content).encode()
        headers = dict(headers or {})
        if status >= 400:
            headers.setdefault("X-Error-Message", content["error"])
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if raw else "application/json")
        self.send_header("Content-Length", str(len(body)))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _user(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _may_write(self, repository: str) -> bool:
        if not self._user():
            self._answer(401, {"error": "Invalid username or password."})
            return False
        if repository.partition("/")[0] != self.hub.owner:
            self._answer(403, {"error": f"You don't have the rights to write to {repository}"})
            return False
        return True

    def _find(self, repository: str) -> Repository | None:
        found = self.hub.repositories.get(repository)
        if found is None or (found.private and not self._user()):
            self._answer(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        return found

    def create(self, body: bytes) -> None:
        wanted = json.loads(body)
        name = f"{wanted['organization'] or self.hub.owner}/{wanted['name']}"
        if not self._may_write(name):
            return
        if name in self.hub.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
            return
        made = self.hub.repositories[name] = Repository(wanted.get("visibility") == "private")
        made.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self._answer(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def validate_yaml(self, body: bytes) -> None:
        self._answer(200, {"errors": [], "warnings": []})

    def branch(self, body: bytes, repository: str, branch: str) -> None:
        found = self._find(repository)
        if found is None or not self._may_write(repository):
            return
        if branch in found.branches:
            self._answer(409, {"error": "Reference already exists"})
            return
        found.branches[branch] = found.branches["main"]
        self._answer(200)

    def info(self, body: bytes, repository: str, revision: str | None = None) -> None:
        found = self._find(repository)
        if found is None:
            return
        sha = found.branches.get(revision or "main", revision or "")
        if sha not in found.commits:
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return
        siblings = [{"rfilename": name} for name in found.commits[sha]]
        self._answer(200, {"id": repository, "sha": sha, "private": found.private, "siblings": siblings, "tags": []})

    def tree(self, body: bytes, repository: str, revision: str) -> None:
        found = self._find(repository)
        if found is None:
            return
        entries = []
        for name, content in (found.files(revision) or {}).items():
            entry = {"type": "file", "path": name, "size": len(content), "oid": _git_hash(content)}
            if _is_lfs(name):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            entries.append(entry)
        self._answer(200, entries)

    def preupload(self, body: bytes, repository: str, revision: str) -> None:
        found = self._find(repository)
        if found is None or not self._may_write(repository):
            return
        there = found.files(revision) or {}

        def told(one: dict[str, Any]) -> dict[str, Any]:
            mode, content = "lfs" if _is_lfs(one["path"]) else "regular", there.get(one["path"])
            oid = None
            if content is not None:
                oid = hashlib.sha256(content).hexdigest() if mode == "lfs" else _git_hash(content)
            return {"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid}

        self._answer(200, {"files": [told(one) for one in json.loads(body)["files"]]})

    def batch(self, body: bytes, repository: str) -> None:
        if not self._may_write(repository):
            return

        def told(one: dict[str, Any]) -> dict[str, Any]:
            if one["oid"] in self.hub.objects:
                return dict(one)
            actions = {
                "upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"},
                "verify": {"href": f"{self.hub.url}/verify/{one['oid']}"},
            }
            return {**one, "actions": actions}

        self._answer(200, {"transfer": "basic", "objects": [told(one) for one in json.loads(body)["objects"]]})

    def put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._answer(422, {"error": "the content has another hash"})
            return
        self.hub.objects[oid] = body
        self.hub.uploads.append(len(body))
        self._answer(200)

    def verify(self, body: bytes, oid: str) -> None:
        self._answer(200 if oid in self.hub.objects else 404, {"error": ""})

    def commit(self, body: bytes, repository: str, revision: str) -> None:
        found = self._find(repository)
        if found is None or not self._may_write(repository):
            return
        if revision not in found.branches:
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
            return
        files, message = dict(found.files(revision) or {}), ""
        for line in body.splitlines():
            one = json.loads(line)
            value = one["value"]
            if one["key"] == "header":
                message = value["summary"]
            elif one["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
        sha = found.commit(revision, files, message)
        self._answer(200, {"commitUrl": f"{self.hub.url}/{repository}/commit/{sha}", "commitOid": sha})

    def resolve(self, body: bytes, repository: str, revision: str, name: str) -> None:
        found = self._find(repository)
        if found is None:
            return
        sha = found.branches.get(revision, revision)
        if sha not in found.commits:
            self._answer(404, {"error": "Invalid rev id"}, {"X-Error-Code": "RevisionNotFound"})
        elif name not in found.commits[sha]:
            self._answer(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
        else:
            content = found.commits[sha][name]
            tag = hashlib.sha256(content).hexdigest() if _is_lfs(name) else _git_hash(content)
            self._answer(200, content, {"X-Repo-Commit": sha, "ETag": f'"{tag}"'})


_MODEL = r"([\w.-]+/[\w.-]+)"
_ROUTES = [
    ("POST /api/repos/create", _Handler.create),
    ("POST /api/validate-yaml", _Handler.validate_yaml),
    (rf"POST /api/models/{_MODEL}/branch/([^/]+)", _Handler.branch),
    (rf"GET /api/models/{_MODEL}", _Handler.info),
    (rf"GET /api/models/{_MODEL}/revision/([^/]+)", _Handler.info),
    (rf"GET /api/models/{_MODEL}/tree/([^/]+)", _Handler.tree),
    (rf"POST /api/models/{_MODEL}/preupload/([^/]+)", _Handler.preupload),
    (rf"POST /api/models/{_MODEL}/commit/([^/]+)", _Handler.commit),
    (rf"POST /{_MODEL}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /lfs/(\w+)", _Handler.put),
    (r"POST /verify/(\w+)", _Handler.verify),
    (rf"(?:GET|HEAD) /{_MODEL}/resolve/([^/]+)/(.+)", _Handler.resolve),
]


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    """A hub that answers while the block runs."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
