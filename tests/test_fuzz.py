"""A small run of the campaign of mutated model directories (`scripts/fuzz_models.py`)."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripts import fuzz_models
from tests.conftest import ROOT


@pytest.mark.slow
def test_damaged_models_end_in_embeddings_or_a_core_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The models are made here, where the runtimes are imported; each backend has a process."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    code = fuzz_models.main(["--mutants", "45", "--seed", "7"])
    said = capsys.readouterr().out
    assert code == 0, said[-3000:]
    rows = [line.split() for line in said.splitlines()[-3:]]
    assert [row[0] for row in rows] == ["torch", "onnx", "openvino"]
    assert sum(int(count) for row in rows for count in row[1:]) == 45
    # Damage is noticed and harmless changes are harmless: not all of one kind.
    assert all(sum(int(row[column]) for row in rows) > 0 for column in (1, 3))


def test_the_campaign_is_a_script() -> None:
    command = [sys.executable, "scripts/fuzz_models.py", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--mutants" in done.stdout
