"""Rows of a job's source: Parquet, JSONL and text files, cut into parts that never change."""

from __future__ import annotations

import codecs
import hashlib
import json
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from core.batch.storage import Folder
from core.errors import CoreError, OptionError
from core.texts.inputs import lone_surrogate

#: What a source's files end in.
SUFFIXES = (".parquet", ".jsonl", ".txt")
#: Rows of a Parquet source that are read at a time.
_READ = 4_096
_DIGITS = 32


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source.

    Attributes:
        name: Relative to the source.
        rows: How many rows it has.
        digest: Of its content: 32 hexadecimal digits of SHA-256; of a Parquet file, of its footer,
            which holds the sizes and statistics of every column chunk.
        offsets: Where each part of a text file begins, in bytes; () for Parquet.
        checksums: Of the lines of each part of a text file; () for Parquet.
        whole_ids: Whether the first id of a file of JSONL is an integer: all of them are then.
            None where it has none.
    """

    name: str
    rows: int
    digest: str
    offsets: tuple[int, ...] = ()
    checksums: tuple[int, ...] = ()
    whole_ids: bool | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one file that are embedded and written together.

    Attributes:
        number: Its place among the parts.
        file: Its place among the source's files.
        start: Its first row in that file.
        rows: How many.
        offset: Where its first row begins in a text file, in bytes.
        before: Rows of the files before, for row numbers.
    """

    number: int
    file: int
    start: int
    rows: int
    offset: int
    before: int


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its place in the file, its id, and its text, or what is wrong with it.

    Attributes:
        text: What its column holds; of several columns a tuple.
    """

    place: int
    id: Any
    text: Any
    wrong: str = ""


class Rows:
    """The rows of a source, by part.

    Args:
        source: A file, or a directory whose files end in .parquet, .jsonl or .txt.
        text_columns: Columns of Parquet, fields of JSONL: one, or the two of a pair.
        id_column: One of them, or None for row numbers.
        rows_per_part: The most rows of a part.
        target: Where the parts go. What lies there is no part of the source.

    Raises:
        OptionError: There is no such source, column or field, or it has no rows.
        CoreError: A file cannot be read.
    """

    def __init__(
        self,
        source: Folder,
        text_columns: Sequence[str],
        id_column: str | None,
        rows_per_part: int,
        target: Folder,
    ) -> None:
        self.source = source
        self.text_columns = tuple(text_columns)
        self.id_column = id_column
        self._rows_per_part = rows_per_part
        names = _source_names(source, target)
        self._suffix = _one_suffix(source, names)
        if self._suffix == ".txt" and id_column is not None:
            raise OptionError(
                f"{source!r} is text, a row a line, and has no column {id_column!r}: leave out "
                "id_column, and rows are numbered from 0."
            )
        if self._suffix == ".txt" and len(self.text_columns) > 1:
            raise OptionError(
                f"{source!r} is text, a row a line, and has no columns "
                f"{' and '.join(map(repr, self.text_columns))}: pairs come from .parquet or .jsonl."
            )
        scan = self._scan_parquet if self._suffix == ".parquet" else self._scan_lines
        self.files = [scan(name) for name in names]
        found = (file.whole_ids for file in self.files if file.whole_ids is not None)
        self._whole_ids = next(found, False)
        if not any(file.rows for file in self.files):
            raise OptionError(f"{source!r} has no rows.")
        self.parts = list(self._cut())

    @property
    def count(self) -> int:
        """How many rows there are."""
        return sum(file.rows for file in self.files)

    @property
    def digest(self) -> str:
        """Of everything that is read: tells one source from another, or from a changed one."""
        listed = [[file.name, file.rows, file.digest] for file in self.files]
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:_DIGITS]

    def _cut(self) -> Iterator[Part]:
        number = before = 0
        for place, file in enumerate(self.files):
            for start in range(0, file.rows, self._rows_per_part):
                rows = min(self._rows_per_part, file.rows - start)
                offset = file.offsets[start // self._rows_per_part] if file.offsets else 0
                yield Part(number, place, start, rows, offset, before)
                number += 1
            before += file.rows

    def _check_names(self, present: Collection[str], lacks: str) -> None:
        """Raise `OptionError` unless the columns that were asked for are there."""
        named = [("text_column", name) for name in self.text_columns]
        for option, name in (*named, ("id_column", self.id_column)):
            if name is not None and name not in present:
                listed = ", ".join(map(repr, present)) or "none"
                raise OptionError(
                    f"{lacks} {name!r}; it has {listed}. Name one of them with {option}."
                )

    # Parquet

    def _scan_parquet(self, name: str) -> SourceFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        shown = self._shown(name)
        with self.source.open(name) as file:
            try:
                footer = pq.read_metadata(file)
                schema = footer.schema.to_arrow_schema()
            except (pa.ArrowException, UnicodeDecodeError) as error:
                raise CoreError(f"{shown} cannot be read as Parquet: {error}") from error
            digest = _digest_of_footer(file)
        self._check_columns(schema, shown)
        return SourceFile(name, footer.num_rows, digest)

    def _check_columns(self, schema: Any, shown: str) -> None:
        import pyarrow as pa

        self._check_names(schema.names, f"{shown} has no column")
        for name in (*self.text_columns, self.id_column):
            if (count := schema.names.count(name)) > 1:
                raise OptionError(
                    f"{shown} has {count} columns {name!r}. Write it with a name for each column."
                )
        for name in self.text_columns:
            kind = schema.field(name).type
            if not _is_text(kind):
                raise OptionError(
                    f"{shown}: column {name!r} holds {kind}, not strings. Name the column of the "
                    "texts with text_column."
                )
        kind = None if self.id_column is None else schema.field(self.id_column).type
        if kind is not None and (pa.types.is_nested(kind) or pa.types.is_floating(kind)):
            raise OptionError(
                f"{shown}: column {self.id_column!r} holds {kind}; ids are strings, integers or "
                "other plain values."
            )

    def id_type(self) -> Any:
        """Of the ids in the result, as pyarrow has it."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.id_column is None:
            return pa.int64()
        if self._suffix == ".parquet":
            kinds = {}
            for found in self.files:
                with self.source.open(found.name) as file:
                    kind = pq.read_schema(file).field(self.id_column).type
                kinds[kind.value_type if pa.types.is_dictionary(kind) else kind] = found.name
            if len(kinds) > 1:
                listed = "; ".join(f"{kind} in {name}" for kind, name in kinds.items())
                raise OptionError(
                    f"{self.source!r}: column {self.id_column!r} has several types: {listed}."
                )
            return next(iter(kinds))
        return pa.int64() if self._whole_ids else pa.string()

    def _parquet_rows(self, part: Part) -> Iterator[Row]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = list(dict.fromkeys(c for c in (*self.text_columns, self.id_column) if c))
        name = self.files[part.file].name
        with self.source.open(name) as file:
            if _digest_of_footer(file) != self.files[part.file].digest:
                raise self._changed(name)
            try:
                opened = pq.ParquetFile(file)
                groups, first = _groups_with(opened.metadata, part.start, part.start + part.rows)
                place = first
                end = part.start + part.rows
                for batch in opened.iter_batches(_READ, row_groups=groups, columns=columns):
                    if place + len(batch) > part.start and place < end:
                        texts = _texts_of(batch, self.text_columns)
                        ids = _ids_of(batch.column(self.id_column)) if self.id_column else None
                        for i, text in enumerate(texts):
                            if part.start <= place + i < end:
                                number = part.before + place + i
                                found = number if ids is None else ids[i]
                                if isinstance(found, bytes):
                                    wrong = f"its {self.id_column!r} is not UTF-8"
                                    yield Row(place + i, None, None, wrong)
                                else:
                                    yield Row(place + i, found, text)
                    place += len(batch)
            except (pa.ArrowException, UnicodeDecodeError) as error:
                raise CoreError(f"{self._shown(name)} cannot be read: {error}") from error

    # Lines

    def _scan_lines(self, name: str) -> SourceFile:
        """Count the rows of a file of lines and note where each part begins."""
        digest = hashlib.sha256()
        offsets: list[int] = []
        checksums: list[int] = []
        rows, offset, whole = 0, 0, None
        with self.source.open(name) as file:
            for line in file:
                digest.update(line)
                if self._suffix == ".txt" or not _is_blank(line):
                    if rows % self._rows_per_part == 0:
                        offsets.append(offset)
                        checksums.append(0)
                    checksums[-1] = zlib.crc32(line, checksums[-1])
                    if rows == 0 and self._suffix == ".jsonl":
                        self._check_first(line, self._shown(name))
                    if whole is None and self.id_column is not None:
                        whole = _has_whole_id(line, self.id_column)
                    rows += 1
                offset += len(line)
        found = digest.hexdigest()[:_DIGITS]
        return SourceFile(name, rows, found, tuple(offsets), tuple(checksums), whole)

    def _check_first(self, line: bytes, shown: str) -> None:
        """Raise `OptionError` where the first row lacks a field."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return  # reported with its row
        if isinstance(record, dict):
            self._check_names(record, f"{shown}: the first row has no field")
        elif self.id_column is not None:
            raise OptionError(
                f"{shown}: the first line is no object, and has no field {self.id_column!r}."
            )

    def _line_rows(self, part: Part) -> Iterator[Row]:
        found = self.files[part.file]
        place, end, checksum = part.start, part.start + part.rows, 0
        with self.source.open(found.name) as file:
            file.seek(part.offset)
            for line in file:
                if self._suffix != ".txt" and _is_blank(line):
                    continue
                checksum = zlib.crc32(line, checksum)
                yield self._line_row(line, place, part.before + place)
                place += 1
                if place == end:
                    break
        if place != end or checksum != found.checksums[part.start // self._rows_per_part]:
            raise self._changed(found.name)

    def _line_row(self, line: bytes, place: int, number: int) -> Row:
        numbered = number if self.id_column is None else None
        try:
            text = line.decode("utf-8-sig" if place == 0 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            return Row(place, numbered, None, f"it is not UTF-8 ({error.reason})")
        if self._suffix == ".txt":
            return Row(place, numbered, text)
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            return Row(place, numbered, None, f"it is not JSON ({error})")
        if not isinstance(record, dict):
            return Row(place, numbered, record)
        if self.id_column is None:
            return Row(place, numbered, *_fields(record, self.text_columns))
        if self.id_column not in record:
            return Row(place, None, None, f"it has no field {self.id_column!r}")
        given = record[self.id_column]
        if not (_is_whole(given) if self._whole_ids else isinstance(given, str)):
            kind = "an integer" if self._whole_ids else "a string"
            found = f"its {self.id_column!r} is {given!r:.60}, "
            found += (
                f"where the first row has {kind}"
                if _is_whole(given) or isinstance(given, str)
                else "neither a string nor an integer of 64 bits"
            )
            return Row(place, None, None, found)
        if isinstance(given, str) and (found := lone_surrogate(given)):
            return Row(place, None, None, f"its {self.id_column!r} {found}")
        return Row(place, given, *_fields(record, self.text_columns))

    def of(self, part: Part) -> Iterator[Row]:
        """The rows of a part, in order."""
        return self._parquet_rows(part) if self._suffix == ".parquet" else self._line_rows(part)

    def _changed(self, name: str) -> CoreError:
        return CoreError(
            f"{self._shown(name)} has changed since the job began, and what is finished is of the "
            "rows that were there. Start anew with overwrite=True when nothing writes to it."
        )

    def _shown(self, name: str) -> str:
        return f"{self.source!r}: {name}" if name else repr(self.source)


def _source_names(source: Folder, target: Folder) -> list[str]:
    listed = source.files()
    top = f"{source.place.rstrip('/')}/"
    if target.local == source.local and target.place.startswith(top):
        inside = f"{target.place.removeprefix(top)}/"
        listed = [found for found in listed if not found[0].startswith(inside)]
    if not listed and not source.exists():
        raise OptionError(f"There is no {source!r}.")
    hidden = ("_", ".")
    names = [
        name
        for name, _ in listed
        if not any(step.startswith(hidden) for step in name.split("/"))
        and (name or source.root).endswith(SUFFIXES)
    ]
    if not names:
        endings = ", ".join(SUFFIXES)
        found = ", ".join(name for name, _ in listed[:3]) or "nothing"
        if [name for name, _ in listed] == [""]:
            raise OptionError(f"{source!r} is a file that ends in none of {endings}.")
        raise OptionError(f"{source!r} has no file that ends in {endings}; it has {found}.")
    return names


def _one_suffix(source: Folder, names: list[str]) -> str:
    endings = {(name or source.root).rpartition(".")[2]: name for name in names}
    if len(endings) > 1:
        listed = ", ".join(endings.values())
        raise OptionError(f"{source!r} mixes formats ({listed}); a job reads files of one.")
    return f".{next(iter(endings))}"


def _digest_of_footer(file: Any) -> str:
    """Of a Parquet file's size and footer, whose length stands 8 bytes before the end."""
    size = file.seek(0, 2)
    file.seek(max(size - 8, 0))
    length = int.from_bytes(file.read(4), "little")
    file.seek(max(size - 8 - length, 0))
    content = size.to_bytes(8, "little") + file.read(length)
    return hashlib.sha256(content).hexdigest()[:_DIGITS]


def _groups_with(footer: Any, start: int, end: int) -> tuple[list[int], int]:
    """The row groups that hold rows `start` to `end`, and the first row of the first of them."""
    groups: list[int] = []
    first = place = 0
    for number in range(footer.num_row_groups):
        rows = footer.row_group(number).num_rows
        if place < end and place + rows > start:
            first = first if groups else place
            groups.append(number)
        place += rows
    return groups, first


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )  # fmt: skip


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _has_whole_id(line: bytes, name: str) -> bool | None:
    """Whether the id of a line of JSONL is an integer or a string; None where it is neither."""
    try:
        given = json.loads(line)[name]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return True if _is_whole(given) else False if isinstance(given, str) else None


def _fields(record: dict[str, Any], names: Sequence[str]) -> tuple[Any, str]:
    """The text of a row, or the texts of its columns, and what is wrong with them."""
    for name in names:
        if name not in record:
            return None, f"it has no field {name!r}"
    return (record[names[0]] if len(names) == 1 else tuple(record[name] for name in names)), ""


def _is_blank(line: bytes) -> bool:
    """Whether a line holds nothing, but perhaps the mark that some editors begin a file with."""
    return not line.removeprefix(codecs.BOM_UTF8).strip()


def _texts_of(batch: Any, names: Sequence[str]) -> list[Any]:
    """The same of a batch of Parquet."""
    columns = [_strings(batch.column(name)) for name in names]
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def _ids_of(column: Any) -> list[Any]:
    """Strings and integers, and bytes for a string that is not UTF-8. Others stay as Arrow has
    them: Python has no nanoseconds, and no year after 9999."""
    import pyarrow as pa

    column = _plain(column)
    if _is_text(column.type) or pa.types.is_integer(column.type):
        return _strings(column)
    return list(column)


def _plain(column: Any) -> Any:
    """A column without the dictionary that Arrow keeps repeated values in."""
    import pyarrow as pa

    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _strings(column: Any) -> list[Any]:
    """The values of a column, with bytes for a string that is not UTF-8."""
    column = _plain(column)
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        return [_string(scalar) for scalar in column]
    return values


def _string(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()
