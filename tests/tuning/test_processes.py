"""The choice over real backends, each variant in a process of its own; kills and crashes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import core
from core import PluginError
from core.tuning.candidates import Candidate
from core.tuning.making import Maker
from core.tuning.process import Bench, TooSlowError, open_bench
from core.tuning.race import TuneProgress
from tests.conftest import copy_model

COMMAND = [sys.executable, "-m", "core", "tune"]


@pytest.fixture
def onnx_model(exports: Callable[..., Path], tmp_path: Path) -> Path:
    """A model with an ONNX file that a test may write to."""
    return copy_model(exports("bert-mean", "onnx"), tmp_path / "model")


@pytest.fixture
def text_file(texts: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


@pytest.mark.slow
def test_one_backend_tunes_over_its_variants(
    onnx_model: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    report = core.tune(onnx_model, texts, backends=["onnx"], minutes=1)
    names = {variant.name for variant in report.variants}
    assert {"onnx float32", "onnx optimize O1", "onnx optimize O2", "onnx quantize avx2"} <= names
    assert "onnx quantize arm64" not in names  # nothing for another processor
    assert "onnx optimize O4" not in names  # nothing for a GPU
    measured = [variant for variant in report.variants if variant.status != "failed"]
    assert len(measured) == len(report.variants)
    for variant in measured:
        assert variant.resident_bytes is not None
        assert variant.resident_bytes > 50e6  # Python, numpy and ONNX Runtime
        assert variant.start_s is not None
        assert variant.start_s > 0.1
    # Each ran in a process of its own: here no runtime was loaded for it.
    assert report.best.recall_at_10 is not None
    assert report.best.recall_at_10 >= 0.99
    with core.load(onnx_model) as model:
        assert (model.backend, model.file_name) == ("onnx", report.best.file_name)


@pytest.mark.slow
def test_a_killed_command_leaves_nothing_and_the_next_one_finishes(
    onnx_model: Path, text_file: Path, tmp_path: Path
) -> None:
    before = sorted(path.relative_to(onnx_model) for path in onnx_model.rglob("*"))
    command = [*COMMAND, str(onnx_model), "--texts", str(text_file), "--backend", "onnx", "--json"]
    environment = {**os.environ, "CORE_CACHE": str(tmp_path / "cache")}
    record = tmp_path / "cache/tuning"

    def variants() -> int:
        return sum(
            len(json.loads(path.read_bytes())["variants"]) for path in record.glob("*/*.json")
        )

    for moment in (1, 4):  # variants that are known of when it is killed
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        while variants() < moment and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = sorted(path.relative_to(onnx_model) for path in onnx_model.rglob("*"))
        assert after == before
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    report = json.loads(done.stdout)
    assert Path(report["lock"]) == onnx_model / "core_tuned.json"
    assert report["best"]["status"] == "measured"


@pytest.mark.slow
def test_a_variant_whose_process_dies_or_hangs_says_so(onnx_model: Path) -> None:
    bench = open_bench("onnx")
    try:
        with pytest.raises(core.ModelNotFound, match="no directory"):
            bench.ask("load", str(onnx_model / "gone"), {"backend": "onnx"})
        facts = bench.ask("load", str(onnx_model), {"backend": "onnx"})
        assert facts["file_name"] == "onnx/model.onnx"
        with pytest.raises(TooSlowError, match="took longer than the 0 s"):
            bench.ask("encode", "encode", [f"text {i} " * 60 for i in range(2_000)], seconds=0.0)
    finally:
        bench.close()
    bench = open_bench("onnx")
    try:
        pid = bench.ask("process")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(PluginError, match="its process ended with signal 9"):
            bench.ask("memory")
    finally:
        bench.close()


@pytest.mark.slow
def test_a_process_that_dies_while_it_makes_a_file_takes_no_other_file_with_it(
    onnx_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Bench] = []

    def noted(backend: str) -> Bench:
        opened.append(open_bench(backend))
        return opened[-1]

    monkeypatch.setattr("core.tuning.making.open_bench", noted)
    maker = Maker(str(onnx_model), {}, tmp_path / "made", [])
    try:
        maker.load("onnx", 600)
        os.kill(opened[0].ask("process"), signal.SIGKILL)
        with pytest.raises(PluginError, match="its process ended with signal 9"):
            maker.make(Candidate("onnx", "optimize", "O1"), 600)
        assert maker.make(Candidate("onnx", "optimize", "O2"), 600) == "onnx/model_O2.onnx"
    finally:
        maker.close()


def children() -> set[int]:
    """Processes that this one has started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            parent = path.read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.add(int(path.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")
@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGKILL, "signal 9, .*memory runs out"), (signal.SIGSTOP, "took longer than the 2 s")],
)
def test_what_everything_is_compared_with_dies_or_hangs(
    onnx_model: Path,
    texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    said: str,
) -> None:
    """In the middle of a run, when no time budget ends it: the error says which variant it was."""
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("core.tuning.race.other_candidates", lambda *_: [])

    before = children()  # of other tests

    def disturb(progress: TuneProgress) -> None:
        if progress.text.startswith("round 1"):
            monkeypatch.setattr("core.tuning.race.Race._patience", 2.0)
            for pid in children() - before:
                os.kill(pid, number)

    with pytest.raises(core.CoreError, match=f"^onnx float32: .*{said}"):
        core.tune(onnx_model, texts, backends=["onnx"], on_progress=disturb)
    assert children() <= before
