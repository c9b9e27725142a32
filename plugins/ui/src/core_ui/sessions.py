"""What the server keeps of each browser: its model, its jobs, and what they made."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import core
from core.errors import CoreError, OptionError
from core_ui.jobs import Job, Jobs

_MOST_SESSIONS = 200


@dataclass(frozen=True)
class Variant:
    """One way to load a model.

    Attributes:
        model: A directory or a name on the Hub.
        revision: Of a name on the Hub; empty for its default.
        backend: Empty for core's choice.
        file_name: Empty for the backend's choice.
        is_artifact: Whether it was made by core and lies in a directory, so that it can be pushed.
        kind: Of the model.
    """

    model: str
    revision: str = ""
    backend: str = ""
    file_name: str = ""
    is_artifact: bool = False
    kind: str = "embedding"

    @property
    def label(self) -> str:
        """For people, and to choose by."""
        name = Path(self.model).name if Path(self.model).is_absolute() else self.model
        at = f" at {self.revision}" if self.revision else ""
        how = f"{self.backend}, {self.file_name or 'its default file'}"
        return f"{name}{at}: {how if self.backend else 'as it loads by default'}"

    @property
    def path(self) -> str:
        """Of its file."""
        return str(Path(self.model, self.file_name))

    def words(self) -> list[str]:
        """For the command line: MODEL and what chooses the file."""
        found = [self.model]
        for option, value in (
            ("--backend", self.backend),
            ("--file-name", self.file_name),
            ("--revision", self.revision),
        ):
            found += [option, value] if value else []
        return found


@dataclass
class Session:
    """One browser's.

    Attributes:
        jobs: Page to its last job.
        info: What `core info` said of the model that was shown last.
        shown: That model: its name and revision.
        made: What jobs wrote, newest last.
        fields: The id of a field of the page to what it holds; no token is among them.
        restored: The loads of the page whose fields were put back.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    info: Mapping[str, Any] = field(default_factory=dict)
    shown: tuple[str, str] = ("", "")
    made: list[Variant] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    restored: set[str] = field(default_factory=set)
    used: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note_made(self, variant: Variant) -> None:
        """Remember what a job wrote."""
        with self.lock:
            if variant in self.made:
                self.made.remove(variant)
            self.made.append(variant)

    def kind_of(self, model: str) -> str:
        """The kind of a model that was shown or lies in a directory, else the commonest."""
        if self.shown[0] == model:
            return str(self.info.get("kind", "embedding"))
        if Path(model).is_absolute():  # what is wrong with it, the command will say
            with suppress(CoreError):
                return core.kind_of(model)
        return "embedding"

    def variants(self, model: str, revision: str) -> list[Variant]:
        """What was made, newest first; then the model by default and by each of its files."""
        found = [*reversed(self.made)]
        if model:
            kind = self.kind_of(model)
            found.append(Variant(model, revision, kind=kind))
            if self.shown == (model, revision):
                is_local = Path(model).is_absolute()
                found += [
                    Variant(
                        model,
                        revision,
                        file["backend"],
                        file["file"],
                        is_artifact=is_local and file["operation"] is not None,
                        kind=kind,
                    )
                    for file in self.info.get("artifacts", ())
                ]
        return list(dict.fromkeys(found))


class Sessions:
    """Every browser's, by the name in its cookie."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def of(self, name: str | None) -> Session:
        """The session of a browser.

        Raises:
            OptionError: The browser sent no name.
        """
        if not name:
            raise OptionError("The browser keeps no cookies for this page: allow them, and reload.")
        with self._lock:
            if name not in self._sessions:
                self._make_room()
                self._sessions[name] = Session()
            session = self._sessions[name]
            session.used = time.monotonic()
            return session

    def _make_room(self) -> None:
        idle = [
            name
            for name, session in self._sessions.items()
            if all(job.state != "running" for job in session.jobs.values())
        ]
        idle.sort(key=lambda name: self._sessions[name].used)
        for name in idle[: max(0, len(self._sessions) - _MOST_SESSIONS + 1)]:
            for job in self._sessions.pop(name).jobs.values():
                self._jobs.forget(job)
