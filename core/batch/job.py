"""One job: which parts are there, which are missing, and how a part is made.

A target holds `part-00000.parquet` and so on, and `_core/`: `job.json`, what decides the result,
and `parts/00000.json` for every finished part, written after the part itself. A part is written
beside its place and renamed, so what stands there is whole; a run makes what has no such record.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from core.architecture.kinds import KINDS
from core.arguments import check_text_or_none, suggestion
from core.batch.columns import result_columns, window_of
from core.batch.identity import FORMAT, describe_model, describe_options, differences, digest_of
from core.batch.loading import check_columns, open_model
from core.batch.records import FailedRow, PartRecord, parse_record, plain_id
from core.batch.rows import Part, Row, Rows
from core.batch.storage import Folder
from core.errors import CoreError, OptionError
from core.files.staging import lock_if_free
from core.models.model import Model
from core.options import EncodeOptions, check_positive
from core.texts.inputs import lone_surrogate

ON_ERROR = ("fail", "skip", "null")
#: Rows of a part: at most so many are computed again after a run was killed.
ROWS_PER_PART = 20_000

_JOB = "_core/job.json"
_RECORDS = "_core/parts"
_METADATA = b"core"
_SHOWN = 60


class Job:
    """What a run and its workers share: source, target and options, without the model.

    Args:
        source, target: Paths or URLs.
        text_column: Of the source; of a reranker two, of the queries and of the documents.
        id_column: Of the source; None numbers the rows from 0.
        kind: What to load the model as; None for its own.
        options: Of `encode` (of a reranker, of `predict`), by name.
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
        text_column: str | Sequence[str],
        id_column: str | None,
        kind: str | None,
        options: Mapping[str, Any],
        on_error: str,
        rows_per_part: int,
    ) -> None:
        self.source = Folder(source, "source")
        self.target = Folder(target, "target")
        columns = _text_columns(text_column)
        check_text_or_none("id_column", id_column)
        _check_one_of("on_error", on_error, ON_ERROR)
        if kind is not None:
            _check_one_of("kind", kind, tuple(KINDS))
        rows_per_part = check_positive("rows_per_part", rows_per_part) or ROWS_PER_PART
        self.kind = kind
        self.options = dict(options)
        self.on_error = on_error
        if self.target.place == self.source.place and self.target.local == self.source.local:
            raise OptionError(f"{self.target!r} is the source: give another directory.")
        self.rows = Rows(self.source, columns, id_column, rows_per_part, self.target)
        self._id_type = self.rows.id_type()
        self._settings = {
            "source": self.rows.digest,
            "text_column": columns[0] if len(columns) == 1 else list(columns),
            "id_column": id_column,
            "rows_per_part": rows_per_part,
            "options": describe_options(EncodeOptions(**self.options)),
        }

    def load(self, model: str | os.PathLike[str], loading: Mapping[str, Any]) -> Model:
        """The model, by the function that loads its kind.

        Args:
            model: What `core.load` takes.
            loading: Options of that function.

        Raises:
            CoreError: As that function.
        """
        return open_model(model, self.kind, loading)

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

    def identity(self, model: Model) -> dict[str, Any]:
        """What decides the result, with its fingerprint.

        Raises:
            OptionError: The options or the columns are not for such a model.
        """
        check_columns(model, self.rows.text_columns)
        model.check_options(model.parse_options(self.options))
        document = {"format": FORMAT, "model": describe_model(model), **self._settings}
        return {**document, "on_error": self.on_error, "fingerprint": digest_of(document)}

    def begin(self, identity: Mapping[str, Any], *, overwrite: bool) -> dict[int, PartRecord]:
        """Make the target this job's; returns the parts that are finished, by number.

        Raises:
            OptionError: The target holds another job, or other files.
        """
        names = [name for name, _ in self.target.files()]
        if overwrite and _JOB in names:
            mine = [name for name in names if name.startswith("_core/") or _is_part(name)]
            # First what says that parts are finished, and never what says whose they are.
            self.target.remove(sorted((name for name in mine if name != _JOB), key=_is_part))
            self.target.write_json(_JOB, identity)
            return {}
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
        same = before.get("fingerprint") == identity["fingerprint"]
        if same and before.get("on_error") in ("fail", self.on_error):
            # What is finished has no row that was no text: the rest may treat these in any way.
            if before["on_error"] != self.on_error:
                self.target.write_json(_JOB, identity)
            return
        changed = [
            f"{name} was {_shown(old)} and is {_shown(new)}"
            for name, old, new in differences(before, identity)
            if name != "fingerprint"
        ]
        before_and_now = (
            "it treats rows that are no text otherwise"
            if same
            else f"its fingerprint is {before.get('fingerprint')}, and this one's "
            f"{identity['fingerprint']}"
        )
        raise OptionError(
            f"{self.target!r} is of another job: {before_and_now}. "
            f"{'; '.join(changed) or 'It was edited'}. "
            "Finish it as it was begun, give another target, or start anew with overwrite=True."
        )

    def _finished(self, names: set[str]) -> dict[int, PartRecord]:
        found = {}
        for part in self.rows.parts:
            name = record_name(part.number)
            if name in names and part_name(part.number) in names:
                content = self.target.read_json(name)
                found[part.number] = parse_record(part.number, content, f"{self.target!r}: {name}")
        return found

    def make_part(
        self,
        part: Part,
        model: Model,
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
        options = model.parse_options(self.options)
        size = window_of(model, options)
        with self.target.writing(part_name(part.number)) as path, ExitStack() as stack:
            writer = None
            for window in _windows(self.rows.of(part), size):
                good = [row for row in window if self._usable(row, part, failed)]
                kept = window if self.on_error == "null" else good
                places = {row.place for row in good}
                missing = np.array([row.place not in places for row in kept], bool)
                columns = result_columns(model, [row.text for row in good], options, missing)
                tell(len(window))
                if writer is None:
                    schema = self._schema(columns, identity)
                    writer = stack.enter_context(
                        pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=["id"])
                    )
                ids = pa.array([row.id for row in kept], self._id_type)
                writer.write_table(pa.table([ids, *columns.values()], schema=writer.schema))
                written += len(kept)
        record = PartRecord(part.number, written, tuple(failed))
        self.target.write_json(record_name(part.number), record.as_json())
        return record

    def _usable(self, row: Row, part: Part, failed: list[FailedRow]) -> bool:
        """Whether a row can be embedded; what cannot is noted, or ends the job."""
        wrong = row.wrong or self._no_text(row.text)
        if not wrong:
            return True
        name = self.rows.files[part.file].name
        found = FailedRow(plain_id(row.id), name, row.place, wrong)
        if self.on_error == "fail":
            raise CoreError(
                f"{self.source!r}, {found}. What is finished is kept: go on with on_error='skip', "
                "which leaves such rows out, or on_error='null', which writes a null. A source "
                "with the row mended is another job, to be started anew with overwrite=True."
            )
        failed.append(found)
        return False

    def _no_text(self, text: Any) -> str:
        """What is wrong with the text of a row, or with one of its two; "" for nothing."""
        names = self.rows.text_columns
        single = len(names) == 1
        # A line of JSONL that is no object has no columns.
        texts = text if not single and isinstance(text, tuple) else (text,)
        for name, value in zip(names, texts, strict=False):
            what = "it" if single or len(texts) == 1 else f"its {name!r}"
            if value is None:
                return f"{what} is null"
            if isinstance(value, bytes):  # of a column of strings
                return f"{what} is not UTF-8"
            if not isinstance(value, str):
                return f"{what} is {value!r:.60}, not a string"
            if found := lone_surrogate(value):
                return f"{what} {found}"
        return "" if len(texts) == len(names) else f"it is {text!r:.60}, not an object"

    def _schema(self, columns: Mapping[str, Any], identity: Mapping[str, Any]) -> Any:
        import pyarrow as pa

        fields = [pa.field("id", self._id_type)]
        fields += [pa.field(name, column.type) for name, column in columns.items()]
        told = {"fingerprint": identity["fingerprint"], "model": identity["model"]}
        return pa.schema(fields, metadata={_METADATA: json.dumps(told, sort_keys=True).encode()})


def part_name(number: int) -> str:
    """The file of a part."""
    return f"part-{number:05}.parquet"


def record_name(number: int) -> str:
    """The file that says that a part is finished."""
    return f"{_RECORDS}/{number:05}.json"


def _is_part(name: str) -> bool:
    return re.fullmatch(r"part-\d{5,}\.parquet", name) is not None


def _is_unfinished(name: str) -> bool:
    """Whether it is what a killed process left of a file that it wrote."""
    return name.endswith(".partial")


def _windows(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while window := list(itertools.islice(rows, size)):
        yield window


def _text_columns(given: Any) -> tuple[str, ...]:
    columns = (given,) if isinstance(given, str) else given
    if (
        not isinstance(columns, list | tuple)
        or len(columns) not in (1, 2)
        or not all(isinstance(name, str) and name for name in columns)
    ):
        raise OptionError(
            "text_column must be the name of a column, or of two for a reranker, not "
            f"{given!r:.80}."
        )
    return tuple(columns)


def _check_one_of(name: str, value: Any, known: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in known:
        raise OptionError(
            f"{name} must be one of {', '.join(known)}, not {value!r}.{suggestion(value, known)}"
        )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
