"""A Hub on the loopback interface, over real git repositories, on which the real client runs.

    with LoopbackHub(folder) as hub:
        hub.create("acme/model").add({"config.json": b"{}"})
        os.environ["HF_ENDPOINT"] = hub.url

Requests and bytes sent are recorded; `hub.fail(...)` makes matching requests fail.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import sleep  # bound here: tests shorten what the client waits
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.gitstore import LFS_SUFFIXES, Entry, GitStore, UnknownRevisionError

OWNER = "acme"
TOKEN = "hf_loopback"
_WHEN = "2026-01-01T00:00:00.000Z"


class RefusedError(Exception):
    """An HTTP error with the Hub's headers."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass
class Fault:
    """What to do to requests whose "METHOD path" matches `pattern`, `times` times."""

    pattern: str
    times: int = 1_000_000
    status: int | None = None
    drop_after: int | None = None
    delay: float = 0.0
    content: str | None = None
    location: str | None = None


@dataclass(frozen=True)
class Request:
    """One answered request."""

    method: str
    path: str
    status: int
    sent: int


class LoopbackHub:
    """The server; `requests` is what it answered so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.private: set[str] = set()
        self.commit_lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.hub = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def store(self, repo_id: str) -> GitStore:
        return GitStore(self.root / f"{repo_id}.git", self.root / "lfs")

    def create(self, repo_id: str) -> GitStore:
        store = self.store(repo_id)
        store.create()
        return store

    def fail(self, pattern: str, **fault: Any) -> Fault:
        self.faults.append(Fault(pattern, **fault))
        return self.faults[-1]

    def answered(self, listing: dict[str, Any]) -> Any:
        """What is said of a repository; tests change it."""
        return listing

    def described(self, headers: dict[str, str]) -> dict[str, str]:
        """What is said of a file; tests change it."""
        return headers

    def fault_for(self, request: str) -> Fault | None:
        for fault in self.faults:
            if fault.times > 0 and re.search(fault.pattern, request):
                fault.times -= 1
                return fault
        return None

    def downloads(self) -> list[Request]:
        """Answered GET requests for files."""
        return [r for r in self.requests if r.method == "GET" and "/resolve/" in r.path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # TCP_NODELAY: headers and body are written separately, and loopback clients wait for both.
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    @property
    def hub(self) -> LoopbackHub:
        hub: LoopbackHub = self.server.hub  # type: ignore[attr-defined]
        return hub

    def do_GET(self) -> None:
        body = self._body()
        fault = self.hub.fault_for(f"{self.command} {self.path}")
        try:
            if fault is not None:
                sleep(fault.delay)
                if fault.location is not None:  # as to a store of large files
                    headers = {"X-Repo-Commit": "c" * 40, "ETag": '"e"'}
                    self._send(b"", 302, {**headers, "Location": fault.location})
                    return
                if fault.content is not None:
                    self._send(fault.content.encode(), fault.status or 200, {})
                    return
                if fault.status is not None:
                    raise RefusedError(fault.status, "", f"Fault {fault.status}")
            self._route(body, fault)
        except RefusedError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            self._json({"error": str(error)}, error.status, headers)
        except UnknownRevisionError as error:
            headers = {"X-Error-Code": "RevisionNotFound"}
            self._json({"error": f"Invalid rev id: {error}"}, 404, headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        except Exception:
            traceback.print_exc()
            self._json({"error": "bug in the loopback Hub"}, 500, {})

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(
        self, content: bytes, status: int, headers: dict[str, str], drop_after: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            content = b""
        elif drop_after is not None:
            content = content[:drop_after]
            self.close_connection = True
        self.wfile.write(content)
        self.hub.requests.append(Request(self.command, self.path, status, len(content)))

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        headers = {"Content-Type": "application/json", **(headers or {})}
        self._send(json.dumps(content).encode(), status, headers)

    def _route(self, body: bytes, fault: Fault | None) -> None:
        url = urlsplit(self.path)
        found = [(re.fullmatch(pattern, url.path), answer) for pattern, answer in _ROUTES]
        match, answer = next(((m, a) for m, a in found if m), (None, None))
        if match is None or answer is None:
            raise RefusedError(404, "NotFound", "Not found")
        signed_in = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        upload = url.path.startswith("/lfs-upload/")  # carries its right in its address
        if not signed_in and not upload and (self.command in ("POST", "PUT", "DELETE")):
            raise RefusedError(401, "", "Invalid username or password.")
        arguments = [unquote(group) for group in match.groups()]
        if arguments and "/" in arguments[0]:
            if arguments[0] in self.hub.private and not signed_in:
                raise RefusedError(401, "", "Invalid username or password.")
            if not self.hub.store(arguments[0]).exists:
                raise RefusedError(404, "RepoNotFound", "Repository not found")
        answer(self, parse_qs(url.query), body, fault, *arguments)

    # The Hub's endpoints: (query, body, fault, *path arguments)

    def whoami(self, *_: Any) -> None:
        access = {"type": "access_token", "accessToken": {"role": "write", "displayName": "t"}}
        self._json({"type": "user", "name": OWNER, "fullname": OWNER, "orgs": [], "auth": access})

    def validate_yaml(self, *_: Any) -> None:
        self._json({"errors": [], "warnings": []})

    def create(self, query: Any, body: bytes, fault: Any) -> None:
        wanted = json.loads(body)
        repo_id = f"{wanted.get('organization') or OWNER}/{wanted['name']}"
        answer = {"url": f"{self.hub.url}/{repo_id}", "id": repo_id, "name": repo_id}
        if self.hub.store(repo_id).exists:
            self._json({**answer, "error": "You already created this model repo"}, 409)
            return
        self.hub.create(repo_id)
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.hub.private.add(repo_id)
        self._json(answer)

    def search(self, query: dict[str, list[str]], body: bytes, fault: Any) -> None:
        words = query.get("search", [""])[0].lower()
        names = [
            path.relative_to(self.hub.root).with_suffix("").as_posix()
            for path in sorted(self.hub.root.glob("*/*.git"))
        ]
        found = [name for name in names if words in name.lower()]
        self._json(
            [{"_id": "0", "id": name, "modelId": name, "tags": [], "likes": 0} for name in found]
        )

    def model_info(
        self, query: dict[str, list[str]], body: bytes, fault: Any, repo_id: str, revision: str = ""
    ) -> None:
        store = self.hub.store(repo_id)
        commit = store.resolve(revision or "main")
        siblings: list[dict[str, Any]] = []
        for entry in store.entries(commit).values():
            file: dict[str, Any] = {"rfilename": entry.path}
            if query.get("blobs"):
                file.update(size=entry.size, blobId=entry.oid[:40])
                if entry.lfs:
                    file["lfs"] = {"sha256": entry.oid, "size": entry.size, "pointerSize": 130}
            siblings.append(file)
        answered = self.hub.answered(
            {
                "_id": "0", "id": repo_id, "modelId": repo_id, "author": repo_id.split("/")[0],
                "sha": commit, "lastModified": _WHEN, "createdAt": _WHEN, "tags": [],
                "private": repo_id in self.hub.private, "gated": False, "disabled": False,
                "downloads": 0, "likes": 0, "siblings": siblings,
            }
        )  # fmt: skip
        self._json(answered)

    def tree(self, query: Any, body: bytes, fault: Any, repo_id: str, revision: str) -> None:
        store = self.hub.store(repo_id)
        files = []
        for entry in store.entries(store.resolve(revision)).values():
            file: dict[str, Any] = {
                "type": "file", "oid": entry.oid[:40], "size": entry.size, "path": entry.path
            }  # fmt: skip
            if entry.lfs:
                file["lfs"] = {"oid": entry.oid, "size": entry.size, "pointerSize": 130}
            files.append(file)
        self._json(files)

    def refs(self, query: dict[str, Any], body: bytes, fault: Any, repo_id: str) -> None:
        kinds = {"refs/heads/": "branches", "refs/tags/": "tags", "refs/pr/": "pullRequests"}
        answer: dict[str, list[dict[str, str]]] = {kind: [] for kind in kinds.values()}
        for ref, commit in self.hub.store(repo_id).references().items():
            for prefix, kind in kinds.items():
                if ref.startswith(prefix):
                    name = ref.removeprefix(prefix)
                    answer[kind].append({"name": name, "ref": ref, "targetCommit": commit})
        self._json({**answer, "converts": []})

    def discussions(self, query: Any, body: bytes, fault: Any, repo_id: str) -> None:
        store = self.hub.store(repo_id)
        found = []
        for number in self._pull_requests(store):
            title = store.message(f"refs/pr/{number}").splitlines()[0]
            found.append(
                {
                    "num": number, "title": title, "status": "open", "isPullRequest": True,
                    "author": {"name": OWNER}, "createdAt": _WHEN,
                    "repo": {"name": repo_id, "type": "model"},
                }
            )  # fmt: skip
        self._json({"discussions": found, "count": len(found), "start": 0})

    @staticmethod
    def _pull_requests(store: GitStore) -> list[int]:
        refs = store.references()
        return sorted(int(ref[8:]) for ref in refs if ref.startswith("refs/pr/"))

    def preupload(self, query: Any, body: bytes, fault: Any, repo_id: str, revision: str) -> None:
        store = self.hub.store(repo_id)
        commit = store.resolve(revision)
        have = store.entries(commit)
        files = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            binary = b"\0" in base64.b64decode(file.get("sample") or "")
            mode = "lfs" if path.endswith(LFS_SUFFIXES) or binary else "regular"
            oid = have[path].oid if path in have else None
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": files, "commitOid": commit})

    def lfs_batch(self, query: Any, body: bytes, fault: Any, repo_id: str) -> None:
        objects = []
        for wanted in json.loads(body)["objects"]:
            if not (self.hub.root / "lfs" / wanted["oid"]).exists():
                upload = {"href": f"{self.hub.url}/lfs-upload/{wanted['oid']}"}
                wanted = {**wanted, "actions": {"upload": upload}}
            objects.append(wanted)
        self._json({"transfer": "basic", "objects": objects})

    def lfs_upload(self, query: Any, body: bytes, fault: Any, oid: str) -> None:
        if GitStore(self.hub.root, self.hub.root / "lfs").put_lfs(body) != oid:
            raise RefusedError(400, "", "The content does not match its hash.")
        self._json({})

    def branch(self, query: Any, body: bytes, fault: Any, repo_id: str, name: str) -> None:
        store = self.hub.store(repo_id)
        start = json.loads(body or b"{}").get("startingPoint") or "main"
        if f"refs/heads/{name}" in store.references():
            raise RefusedError(409, "", "Reference already exists")
        store.point(f"refs/heads/{name}", store.resolve(start))
        self._json({})

    def commit(
        self, query: dict[str, Any], body: bytes, fault: Any, repo_id: str, revision: str
    ) -> None:
        store = self.hub.store(repo_id)
        header: dict[str, str] = {}
        files: dict[str, bytes | Entry] = {}
        deleted: list[str] = []
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                header = value
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = Entry(value["path"], value["oid"], value["size"], lfs=True)
            else:
                deleted.append(value["path"])
        message = f"{header['summary']}\n\n{header.get('description') or ''}"
        with self.hub.commit_lock:
            commit = store.commit(files, message, parent=revision, deleted=tuple(deleted))
            answer = {
                "success": True, "commitOid": commit, "hookOutput": "",
                "commitUrl": f"{self.hub.url}/{repo_id}/commit/{commit}",
            }  # fmt: skip
            if query.get("create_pr"):
                number = max(self._pull_requests(store), default=0) + 1
                store.point(f"refs/pr/{number}", commit)
                answer["pullRequestUrl"] = f"{self.hub.url}/{repo_id}/discussions/{number}"
            else:
                ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
                store.point(ref, commit)
        self._json(answer)

    def file(
        self, query: Any, body: bytes, fault: Fault | None, repo_id: str, revision: str, path: str
    ) -> None:
        store = self.hub.store(repo_id)
        commit = store.resolve(revision)
        entry = store.entries(commit).get(path)
        if entry is None:
            raise RefusedError(404, "EntryNotFound", "Entry not found")
        content, status = store.read(entry), 200
        headers = {"ETag": f'"{entry.oid}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if entry.lfs:
            headers.update({"X-Linked-Etag": f'"{entry.oid}"', "X-Linked-Size": str(entry.size)})
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or entry.size - 1), entry.size - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{entry.size}"
            content, status = content[first : last + 1], 206
        headers = self.hub.described(headers)
        self._send(content, status, headers, fault.drop_after if fault else None)


_REPO = r"([^/]+/[^/]+)"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"/api/whoami-v2", _Handler.whoami),
    (r"/api/validate-yaml", _Handler.validate_yaml),
    (r"/api/repos/create", _Handler.create),
    (r"/api/models", _Handler.search),
    (rf"/api/models/{_REPO}", _Handler.model_info),
    (rf"/api/models/{_REPO}/revision/(.+)", _Handler.model_info),
    (rf"/api/models/{_REPO}/tree/(.+)", _Handler.tree),
    (rf"/api/models/{_REPO}/refs", _Handler.refs),
    (rf"/api/models/{_REPO}/discussions", _Handler.discussions),
    (rf"/api/models/{_REPO}/preupload/(.+)", _Handler.preupload),
    (rf"/api/models/{_REPO}/branch/(.+)", _Handler.branch),
    (rf"/api/models/{_REPO}/commit/(.+)", _Handler.commit),
    (rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"/lfs-upload/([0-9a-f]{64})", _Handler.lfs_upload),
    (rf"/{_REPO}/resolve/([^/]+)/(.+)", _Handler.file),
]
