"""Bare git repositories with LFS pointers, as the Hub keeps them; git itself does the work."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

_POINTER = re.compile(
    rb"version https://git-lfs.github.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n?"
)
_IDENTITY = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "tester"), ("EMAIL", "tester@example.org"))
}
LFS_SUFFIXES = (".safetensors", ".bin", ".onnx", ".onnx_data")


class UnknownRevisionError(Exception):
    """The revision is not a branch, tag, pull request or commit."""


@dataclass(frozen=True)
class Entry:
    """A file of a commit. `oid` is the blob's sha1, or the content's sha256 for LFS files."""

    path: str
    oid: str
    size: int
    lfs: bool


@dataclass(frozen=True)
class GitStore:
    """One repository in `folder`; LFS objects are in `lfs`, shared by all."""

    folder: Path
    lfs: Path

    @property
    def exists(self) -> bool:
        return self.folder.is_dir()

    def create(self) -> None:
        self.folder.mkdir(parents=True)
        self.git("init", "-q", "--bare", "-b", "main")
        tree = self.git("mktree", stdin=b"").decode().strip()
        first = self.git("commit-tree", tree, "-m", "initial commit").decode().strip()
        self.git("update-ref", "refs/heads/main", first)

    def git(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        return subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            input=stdin,
            capture_output=True,
            check=True,
            env={**os.environ, **_IDENTITY, **environment},
        ).stdout

    def resolve(self, revision: str) -> str:
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if revision.startswith("-"):
                break
            try:
                found = self.git("rev-parse", "-q", "--verify", name + "^{commit}")
            except subprocess.CalledProcessError:
                continue
            return found.decode().strip()
        raise UnknownRevisionError(revision)

    @functools.cache  # noqa: B019 - a commit never changes, and stores live as long as a test
    def entries(self, commit: str) -> dict[str, Entry]:
        found = {}
        listing = self.git("ls-tree", "-z", "-l", "-r", commit).decode()
        for line in listing.split("\0")[:-1]:
            meta, path = line.split("\t", 1)
            _, _, oid, size = meta.split()
            pointer = None
            if int(size) < 200:
                pointer = _POINTER.fullmatch(self.git("cat-file", "blob", oid))
            if pointer:
                found[path] = Entry(path, pointer[1].decode(), int(pointer[2]), lfs=True)
            else:
                found[path] = Entry(path, oid, int(size), lfs=False)
        return found

    def read(self, entry: Entry) -> bytes:
        if entry.lfs:
            return (self.lfs / entry.oid).read_bytes()
        return self.git("cat-file", "blob", entry.oid)

    def put_lfs(self, content: bytes) -> str:
        oid = hashlib.sha256(content).hexdigest()
        self.lfs.mkdir(parents=True, exist_ok=True)
        (self.lfs / oid).write_bytes(content)
        return oid

    def commit(
        self,
        files: Mapping[str, bytes | Entry],
        message: str,
        *,
        parent: str = "main",
        deleted: tuple[str, ...] = (),
    ) -> str:
        """A commit on top of `parent`; contents, or entries of LFS objects already there."""
        base = self.resolve(parent)
        with tempfile.TemporaryDirectory() as folder:
            index = {"GIT_INDEX_FILE": f"{folder}/index"}
            self.git("read-tree", base, environment=index)
            lines = [f"0 {'0' * 40}\t{path}" for path in deleted]
            for path, content in files.items():
                blob = self.git("hash-object", "-w", "--stdin", stdin=_blob(content))
                lines.append(f"100644 {blob.decode().strip()}\t{path}")
            entries = "\n".join(lines).encode()
            self.git("update-index", "--index-info", stdin=entries, environment=index)
            tree = self.git("write-tree", environment=index).decode().strip()
        return self.git("commit-tree", tree, "-p", base, stdin=message.encode()).decode().strip()

    def add(self, files: Mapping[str, bytes], *, branch: str = "main") -> str:
        """Commit contents to a branch as `git push` with LFS would."""
        stored: dict[str, bytes | Entry] = {}
        for path, content in files.items():
            stored[path] = content
            if path.endswith(LFS_SUFFIXES):
                stored[path] = Entry(path, self.put_lfs(content), len(content), lfs=True)
        commit = self.commit(stored, "Add files", parent=branch)
        self.point(f"refs/heads/{branch}", commit)
        return commit

    def point(self, reference: str, commit: str) -> None:
        self.git("update-ref", reference, commit)

    def references(self) -> dict[str, str]:
        listing = self.git("for-each-ref", "--format=%(refname) %(objectname)").decode()
        return dict(line.split() for line in listing.splitlines())

    def message(self, revision: str) -> str:
        return self.git("show", "-s", "--format=%B", self.resolve(revision)).decode()


def _blob(content: bytes | Entry) -> bytes:
    if isinstance(content, bytes):
        return content
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{content.oid}\n"
    return f"{pointer}size {content.size}\n".encode()
