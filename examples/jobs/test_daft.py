"""The job with Daft, on this machine."""

from __future__ import annotations

from pathlib import Path

from conftest import assert_embedded
from daft_job import embed


def test_the_job_embeds_every_row(source: Path, model: str, tmp_path: Path) -> None:
    embed(str(source), str(tmp_path / "out"), model)
    assert_embedded(source, tmp_path / "out", model)
