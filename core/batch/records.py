"""What a finished part leaves: how many rows it has, and which rows of the source failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from core.errors import CoreError


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row that has no embedding.

    Attributes:
        id: Of the row, as text where it is neither an integer nor a string; None where the row
            has none.
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

    def as_json(self) -> dict[str, Any]:
        """What `parse_record` reads."""
        failed = [
            {"id": row.id, "file": row.file, "row": row.row, "reason": row.reason}
            for row in self.failed
        ]
        return {"rows": self.rows, "failed": failed}


def parse_record(number: int, content: Any, shown: str) -> PartRecord:
    """The record of a part from its file.

    Raises:
        CoreError: It is damaged; the message calls it `shown`.
    """
    try:
        failed = tuple(
            FailedRow(row["id"], str(row["file"]), int(row["row"]), str(row["reason"]))
            for row in content["failed"]
        )
        return PartRecord(number, int(content["rows"]), failed)
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise CoreError(
            f"{shown} is not as this version of core writes it. Remove it, and its part is made "
            "again."
        ) from error


def plain_id(value: Any) -> Any:
    """An id as JSON and messages have it: None, an integer or a string.

    Args:
        value: One of these, or a scalar of Arrow.
    """
    if value is None or isinstance(value, int | str):
        return value
    try:
        plain = value.as_py()
    except (ValueError, OverflowError, LookupError):  # a time that Python cannot have
        plain = value.value
    return plain if plain is None or isinstance(plain, int | str) else str(plain)
