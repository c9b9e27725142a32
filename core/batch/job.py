"""One job: which parts are there, which are missing, and how a part is made.

A target holds `part-00000.parquet` and so on, and `_core/`: `job.json`, what decides the result,
and `parts/00000.json` for every finished part, written after the part itself. A part is written
beside its place and renamed, so what stands there is whole; a run makes what has no such record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from core.arguments import check_text_or_none, suggestion
from core.batch.identity import FORMAT, describe_model, describe_options, differences, digest_of
from core.batch.rows import WINDOW, Part, Row, Rows
from core.batch.storage import Folder
from core.engine.arrow import arrow_column
from core.errors import CoreError, OptionError
from core.files.staging import lock_if_free
from core.options import EncodeOptions, check_positive

ON_ERROR = ("fail", "skip", "null")
#: Rows of a part: at most so many are computed again after a run was killed.
ROWS_PER_PART = 20_000

_JOB = "_core/job.json"
_RECORDS = "_core/parts"
_METADATA = b"core"
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that has no embedding.

    Attributes:
        id: Of the row; None where the row has none.
        file: Its file, relative to the source; "" for a source of one file.
        row: Its number in that file, from 0.
        reason: What is wrong with it.
    """

    id: Any
    file: str
    row: int
    reason: str

    def __str__(self) -> str:
        where = f"row {self.row}" + (f" of {self.file}" if self.file else "")
        return f"id {self.id!r} ({where}): {self.reason}"


@dataclass(frozen=True, slots=True)
class PartRecord:
    """A finished part.

    Attributes:
        number: Its number.
        rows: Rows written.
        failed: Rows of the source that have no embedding.
    """

    number: int
    rows: int
    failed: tuple[FailedRow, ...] = field(default=())


class Job:
    """What a run and its workers share: source, target and options, without the model.

    Args:
        source, target: Paths or URLs.
        text_column, id_column: Of the source; `id_column` None numbers the rows from 0.
        options: Of `encode`.
        on_error: "fail" ends the job at a row that is no text, "skip" leaves it out, "null" writes
            a null for its embedding.
        rows_per_part: The most rows of a part.

    Raises:
        OptionError: An argument cannot be used, or does not fit the source.
        CoreError: The source cannot be read.
    """

    def __init__(
        self,
        source: Any,
        target: Any,
        *,
        text_column: str,
        id_column: str | None,
        options: EncodeOptions,
        on_error: str,
        rows_per_part: int,
    ) -> None:
        self.source = Folder(source, "source")
        self.target = Folder(target, "target")
        for name, value in (("text_column", text_column), ("on_error", on_error)):
            if not isinstance(value, str) or not value:
                raise OptionError(f"{name} must be a string, not {value!r}.")
        check_text_or_none("id_column", id_column)
        if on_error not in ON_ERROR:
            raise OptionError(
                f"on_error must be one of {', '.join(ON_ERROR)}, not {on_error!r}."
                f"{suggestion(on_error, ON_ERROR)}"
            )
        rows_per_part = check_positive("rows_per_part", rows_per_part) or ROWS_PER_PART
        self.options = options
        self.on_error = on_error
        if self.target.root == self.source.root and self.target.local == self.source.local:
            raise OptionError(f"{self.target!r} is the source: give another directory.")
        self.rows = Rows(self.source, text_column, id_column, rows_per_part)
        self._id_type = self.rows.id_type()
        self._settings = {
            "source": self.rows.digest,
            "text_column": text_column,
            "id_column": id_column,
            "on_error": on_error,
            "rows_per_part": rows_per_part,
            "options": describe_options(options),
        }

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other process of this machine writes to the target meanwhile.

        Raises:
            CoreError: One does, or the target cannot be written.
        """
        with ExitStack() as stack:
            if self.target.local:
                self.target.create("_core")
                if not stack.enter_context(lock_if_free(Path(self.target.path("_core")))):
                    raise CoreError(
                        f"{self.target!r} is being written by another process. Wait for it, or "
                        "give another target."
                    )
            yield

    def identity(self, model: Any) -> dict[str, Any]:
        """What decides the result, with its fingerprint."""
        document = {"format": FORMAT, "model": describe_model(model), **self._settings}
        return {**document, "fingerprint": digest_of(document)}

    def begin(self, identity: Mapping[str, Any], *, overwrite: bool) -> dict[int, PartRecord]:
        """Make the target this job's; returns the parts that are finished, by number.

        Raises:
            OptionError: The target holds another job, or other files.
        """
        names = [name for name, _ in self.target.files()]
        if overwrite:
            mine = [name for name in names if name.startswith("_core/") or _is_part(name)]
            # First what says that parts are finished.
            self.target.remove(sorted(mine, key=_is_part))
            names = [name for name in names if name not in mine]
        if _JOB in names:
            self._check_same(identity)
            if self.target.local:  # elsewhere another process may be writing them
                self.target.remove([name for name in names if _is_unfinished(name)])
            return self._finished(set(names))
        if stray := [name for name in names if not _is_unfinished(name)]:
            raise OptionError(
                f"{self.target!r} holds other files ({', '.join(stray[:3])}): give an empty or new "
                "directory."
            )
        self.target.write_json(_JOB, identity)
        return {}

    def _check_same(self, identity: Mapping[str, Any]) -> None:
        before = self.target.read_json(_JOB)
        if not isinstance(before, dict):
            raise CoreError(f"{self.target!r}: {_JOB} describes no job.")
        if before.get("fingerprint") == identity["fingerprint"]:
            return
        changed = [
            f"{name} was {_shown(old)} and is {_shown(new)}"
            for name, old, new in differences(before, identity)
            if name != "fingerprint"
        ]
        raise OptionError(
            f"{self.target!r} is of another job: its fingerprint is {before.get('fingerprint')}, "
            f"and this one's {identity['fingerprint']}. {'; '.join(changed) or 'It was edited'}. "
            "Finish it as it was begun, give another target, or start anew with overwrite=True."
        )

    def _finished(self, names: set[str]) -> dict[int, PartRecord]:
        found = {}
        for part in self.rows.parts:
            name = record_name(part.number)
            if name in names and part_name(part.number) in names:
                found[part.number] = _parse_record(self.target.read_json(name), self.target, name)
        return found

    def make_part(
        self,
        part: Part,
        model: Any,
        identity: Mapping[str, Any],
        tell: Callable[[int], None] = lambda rows: None,
    ) -> PartRecord:
        """Embed the rows of a part and put it into the target.

        Args:
            tell: Is given the number of rows after each window.

        Raises:
            CoreError: A row is no text and `on_error` is "fail"; the part is not written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        failed: list[FailedRow] = []
        written = 0
        with self.target.writing(part_name(part.number)) as path, ExitStack() as stack:
            writer = None
            for window in _windows(self.rows.of(part)):
                good = [row for row in window if self._usable(row, part, failed)]
                kept = window if self.on_error == "null" else good
                embeddings = self._embed(model, good)
                tell(len(window))
                if writer is None:
                    schema = self._schema(embeddings, identity)
                    writer = stack.enter_context(
                        pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["id"])
                    )
                places = {row.place for row in good}
                missing = np.array([row.place not in places for row in kept], bool)
                column = arrow_column(embeddings, missing if missing.any() else None)
                ids = pa.array([row.id for row in kept], self._id_type)
                writer.write_table(pa.table([ids, column], schema=writer.schema))
                written += len(kept)
        record = PartRecord(part.number, written, tuple(failed))
        self.target.write_json(record_name(part.number), _as_record(record))
        return record

    def _usable(self, row: Row, part: Part, failed: list[FailedRow]) -> bool:
        """Whether a row can be embedded; what cannot is noted, or ends the job."""
        wrong = row.wrong
        if not wrong and not isinstance(row.text, str):
            text = "it is null" if row.text is None else f"it is {row.text!r:.60}, not a string"
            wrong = text
        if not wrong:
            return True
        found = FailedRow(row.id, self.rows.files[part.file].name, row.place, wrong)
        if self.on_error == "fail":
            raise CoreError(
                f"{self.source!r}, {found}. Mend the row, or let the job go on: on_error='skip' "
                "leaves such rows out, on_error='null' writes a null. What is finished is kept."
            )
        failed.append(found)
        return False

    def _embed(self, model: Any, rows: Sequence[Row]) -> Any:
        if not rows:
            # Of the width and dtype that every part has.
            return model.hooks.encode(model, ["width"], self.options)[:0]
        return model.hooks.encode(model, [row.text for row in rows], self.options)

    def _schema(self, embeddings: Any, identity: Mapping[str, Any]) -> Any:
        import pyarrow as pa

        fields = [
            pa.field("id", self._id_type),
            pa.field("embedding", arrow_column(embeddings).type),
        ]
        told = {"fingerprint": identity["fingerprint"], "model": identity["model"]}
        return pa.schema(fields, metadata={_METADATA: json.dumps(told, sort_keys=True).encode()})


def part_name(number: int) -> str:
    """The file of a part."""
    return f"part-{number:05}.parquet"


def record_name(number: int) -> str:
    """The file that says that a part is finished."""
    return f"{_RECORDS}/{number:05}.json"


def _is_part(name: str) -> bool:
    return name.startswith("part-") and name.endswith(".parquet")


def _is_unfinished(name: str) -> bool:
    """Whether it is what a killed process left of a file that it wrote."""
    return name.endswith(".partial")


def _windows(rows: Iterator[Row]) -> Iterator[list[Row]]:
    window: list[Row] = []
    for row in rows:
        window.append(row)
        if len(window) == WINDOW:
            yield window
            window = []
    if window:
        yield window


def _as_record(record: PartRecord) -> dict[str, Any]:
    failed = [
        {"id": _plain(row.id), "file": row.file, "row": row.row, "reason": row.reason}
        for row in record.failed
    ]
    return {"rows": record.rows, "failed": failed}


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, int | str) else str(value)


def _parse_record(content: Any, target: Folder, name: str) -> PartRecord:
    number = int(name.rpartition("/")[2].removesuffix(".json"))
    try:
        failed = tuple(
            FailedRow(row["id"], str(row["file"]), int(row["row"]), str(row["reason"]))
            for row in content["failed"]
        )
        return PartRecord(number, int(content["rows"]), failed)
    except (TypeError, KeyError, ValueError) as error:
        raise CoreError(
            f"{target!r}: {name} is not as this version of core writes it. Remove it, and its part "
            "is made again."
        ) from error


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
