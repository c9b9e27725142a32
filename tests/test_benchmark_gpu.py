"""`make gpu` without a GPU: a dry run of everything, and the parts that only show when things go
wrong."""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import bare, device, report, run
from benchmarks.gpu.agreement import alikeness, compare
from benchmarks.gpu.models import FAMILIES
from benchmarks.gpu.onnx import check_runtime
from benchmarks.gpu.plan import SECONDS, TINY, Setting
from benchmarks.gpu.record import Record
from benchmarks.gpu.run import SECTIONS
from benchmarks.gpu.section import Ending, NotHereError, Row, Section, run_section
from benchmarks.gpu.texts import LAYOUTS, LONGEST, MEAN_TOKENS, SHORTEST, Vocabulary, lengths
from core.tuning.measure import Budget
from tests.conftest import CHILDREN, ROOT

RUN = {
    "started": "2026-11-27 10:00:00",
    "commit": "abc",
    "arguments": "benchmarks.gpu",
    "tiny": False,
    "machine": {"processor": "X", "cores": 2},
}


def setting(work: Path) -> Setting:
    return Setting("cpu", TINY, Budget(60.0), work)


@pytest.mark.slow
def test_a_dry_run_goes_through_everything(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--tiny"]
    done = subprocess.run(
        # So many minutes that no section is stopped on a busy machine.
        [*command, "--minutes", "100", "--output", str(tmp_path)],
        cwd=ROOT,
        # As where nothing of this repository is installed.
        env={**os.environ, "PYTHONPATH": str(CHILDREN)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["correct"] is True
    sections = content["sections"]
    assert list(sections) == list(SECTIONS)
    ended = {name: section["ended"] for name, section in sections.items()}
    without_gpu = {"recovery": "skipped", "onnx": "skipped"}
    assert ended == dict.fromkeys(SECTIONS, "done") | without_gpu
    assert not [row for section in sections.values() for row in section["rows"] if "error" in row]
    checked = {
        (row["model"], row["asked"], row["packed"]) for row in sections["correctness"]["rows"]
    }
    assert checked == {
        (name, dtype, packed)
        for name, family in FAMILIES.items()
        for dtype in ("float32", "float16", "bfloat16", "auto")
        for packed in ([True, False] if family.packs else [False])
    }
    speeds = {row["system"]: row for row in sections["throughput"]["rows"]}
    assert speeds["core auto"]["texts_per_second"] > 0
    assert {"over_sorted", "mean_tokens", "rounds", "spread"} <= speeds["core float32"].keys()
    assert all(0 < row["busy"] <= 1 for row in sections["busy"]["rows"])
    assert all(
        row["p50_ms"] <= row["p99_ms"] for row in sections["latency"]["rows"] if "p50_ms" in row
    )
    assert [row["threads"] for row in sections["threads"]["rows"]] == [16, 16]
    assert [row["devices"] for row in sections["pool"]["rows"]] == [["cpu"]]
    page = (tmp_path / "gpu.md").read_text()
    assert "A dry run of tiny sizes" in page
    assert "Correctness: every result is right." in page
    assert all(f"## {name.capitalize()}\n" in page for name in SECTIONS if name != "device")


def test_every_section_has_a_time() -> None:
    assert SECONDS.keys() == SECTIONS.keys()


class TestTexts:
    @pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
    def test_each_has_as_many_tokens_as_it_should(self, kind: str) -> None:
        vocabulary = Vocabulary(TINY.vocabulary)
        wanted = lengths(300)
        texts = vocabulary.of_tokens(wanted)
        tokenizer = getattr(vocabulary, kind)(LAYOUTS["roberta"])
        found = np.array([len(one.ids) for one in tokenizer.encode_batch(texts)])
        assert set(wanted - found) <= {0, 1}
        assert len(set(texts)) == len(texts)
        unknown = tokenizer.token_to_id("<unk>")
        assert not [one for one in tokenizer.encode_batch(texts) if unknown in one.ids]

    def test_lengths_are_those_that_the_report_states(self) -> None:
        found = lengths(100_000)
        assert found.mean() == pytest.approx(MEAN_TOKENS, rel=0.01)
        assert found.min() >= SHORTEST
        assert found.max() <= LONGEST

    def test_the_seed_decides(self) -> None:
        vocabulary = Vocabulary(TINY.vocabulary)
        assert vocabulary.texts(20) == Vocabulary(TINY.vocabulary).texts(20)
        assert vocabulary.texts(20) != vocabulary.texts(20, seed=1)


class TestAgreement:
    def test_what_is_not_finite_is_wrong(self) -> None:
        right = np.eye(3, dtype=np.float32)
        assert compare(right, right, "float32")["passed"] is True
        broken = right.copy()
        broken[1, 1] = np.nan
        assert compare(broken, right, "float16")["passed"] is False

    def test_the_worst_row_counts(self) -> None:
        right = np.eye(3, dtype=np.float32)
        found = right.copy()
        found[2] = [0.0, 0.1, 1.0]
        assert compare(found, right, "bfloat16")["passed"] is False
        assert compare(found[:2], right, "bfloat16")["passed"] is False

    def test_texts_that_are_all_alike_show(self) -> None:
        assert alikeness(np.ones((4, 3), dtype=np.float32)) == pytest.approx(1.0)
        assert alikeness(np.eye(3, dtype=np.float32)) == pytest.approx(0.0)


def test_kernels_that_overlap_are_counted_once() -> None:
    assert device.covered([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 2.0)]) == 4.0
    assert device.covered([]) == 0.0


class TestBareMachine:
    @pytest.mark.parametrize("project", bare.PROJECTS, ids=lambda path: path.name)
    def test_entry_points_are_those_of_the_project(self, project: Path, tmp_path: Path) -> None:
        bare.write_metadata(project, tmp_path)
        (found,) = importlib.metadata.distributions(path=[str(tmp_path)])
        stated = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        assert found.metadata["Name"] == stated["name"]
        assert found.version == "0.1.0"
        assert found.requires == stated["dependencies"]
        assert {(e.group, e.name, e.value) for e in found.entry_points} == {
            (group, name, value)
            for group, entries in stated.get("entry-points", {}).items()
            for name, value in entries.items()
        }

    def test_the_bundle_goes_last_and_everything_ends_with_the_context(
        self, tmp_path: Path
    ) -> None:
        before = list(sys.path)
        with bare.findable(bundle=tmp_path):
            assert sys.path[-1] == str(tmp_path)
            assert sys.path[1] == str(ROOT)
            names = {d.metadata["Name"] for d in importlib.metadata.distributions()}
            assert "core-torch-backend" in names
        assert sys.path == before

    def test_what_the_interpreter_lacks_is_named(self) -> None:
        done = subprocess.run(
            [sys.executable, "-S", "-m", "benchmarks.gpu"],  # without installed packages
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert f"{sys.executable} has no numpy. It needs PyTorch" in done.stderr
        assert "Traceback" not in done.stderr


def two_rows(given: Setting) -> Iterator[Row]:
    yield {"number": 1, "device": given.device}
    yield {"number": 2}


def fails(given: Setting) -> Iterator[Row]:
    yield {"number": 1}
    raise RuntimeError("an illegal memory access was encountered")


def dies(given: Setting) -> Iterator[Row]:
    yield {"number": 1}
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(given: Setting) -> Iterator[Row]:
    yield {"number": 1}
    time.sleep(600)


def is_not_here(given: Setting) -> Iterator[Row]:
    if given.device == "cpu":
        raise NotHereError("no GPU")
    yield {}


class TestSections:
    def test_rows_come_as_they_are_found(self, tmp_path: Path) -> None:
        rows: list[Row] = []
        ending = run_section(two_rows, setting(tmp_path), 60.0, rows.append, "spawn")
        assert ending == Ending("done")
        assert rows == [{"number": 1, "device": "cpu"}, {"number": 2}]

    @pytest.mark.parametrize(
        ("section", "ended"),
        [
            (fails, Ending("failed", "RuntimeError: an illegal memory access was encountered")),
            (dies, Ending("failed", "its process ended with code -9")),
            (hangs, Ending("stopped", "after 60 seconds")),
        ],
    )
    def test_what_was_found_before_the_end_is_kept(
        self, section: Section, ended: Ending, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rows: list[Row] = []
        if section is hangs:  # its minute is over once it hangs
            clock = SimpleNamespace(monotonic=lambda: 60.0 * len(rows))
            monkeypatch.setattr("benchmarks.gpu.section.time", clock)
        assert run_section(section, setting(tmp_path), 60.0, rows.append, "spawn") == ended
        assert rows == [{"number": 1}]

    def test_what_this_machine_lacks_is_no_failure(self, tmp_path: Path) -> None:
        ending = run_section(is_not_here, setting(tmp_path), 60.0, lambda row: None, "spawn")
        assert ending == Ending("skipped", "no GPU")

    def test_nothing_goes_on_where_the_run_is_ended(self, tmp_path: Path) -> None:
        def keep(row: Row) -> None:
            raise SystemExit(143)

        with pytest.raises(SystemExit):
            run_section(hangs, setting(tmp_path), 60.0, keep, "spawn")
        assert multiprocessing.active_children() == []


def is_right(given: Setting) -> Iterator[Row]:
    yield {"model": "bert", "passed": True, "min_cosine": 1.0}


def is_wrong(given: Setting) -> Iterator[Row]:
    yield {"model": "bert", "passed": False, "min_cosine": 0.9}


class TestExitCode:
    @pytest.mark.parametrize(
        ("sections", "code"),
        [
            ({"device": two_rows, "correctness": is_right}, 0),
            ({"device": two_rows, "correctness": is_right, "busy": fails}, 1),
            ({"device": two_rows, "correctness": is_wrong}, 1),
            ({"device": two_rows, "correctness": fails}, 1),
            ({"device": is_not_here, "correctness": is_right}, 2),
        ],
        ids=["right", "one fails", "wrong", "not checked", "no device"],
    )
    def test_it_says_whether_results_were_right(
        self,
        sections: dict[str, Section],
        code: int,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(run, "SECTIONS", sections)
        monkeypatch.setattr(run, "METHODS", ("spawn",))
        assert run.main(["--device", "cpu", "--output", str(tmp_path)]) == code
        kept = json.loads((tmp_path / "gpu.json").read_text())["sections"]
        assert list(kept) == (list(sections) if code < 2 else ["device"])

    def test_without_a_gpu_it_says_how_to_try_it_out(self, tmp_path: Path) -> None:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        with pytest.raises(NotHereError, match=r"sees no CUDA device.*--device cpu --tiny"):
            next(device.rows(Setting("cuda", TINY, Budget(1.0), tmp_path)))

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--minutes", "0"], "--minutes must be more than 0"),
            (["--model", "/nowhere"], "--model must be a folder"),
            (["--sections", "speed"], "invalid choice: 'speed'"),
        ],
    )
    def test_arguments_that_make_no_sense_are_named(
        self, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            run.main(arguments)
        assert ended.value.code == 2
        assert said in capsys.readouterr().err


class TestRecord:
    def record(self, folder: Path) -> Record:
        return Record(folder, RUN, report.page)

    def content(self, folder: Path) -> Any:
        return json.loads((folder / "gpu.json").read_text())

    def test_a_run_that_is_stopped_leaves_what_it_found(self, tmp_path: Path) -> None:
        record = self.record(tmp_path)
        record.begin("correctness")
        record.add("correctness", {"model": "bert", "passed": True, "min_cosine": 1.0})
        section = self.content(tmp_path)["sections"]["correctness"]
        assert section["rows"] == [{"model": "bert", "passed": True, "min_cosine": 1.0}]
        assert section["ended"] == "stopped"
        assert self.content(tmp_path)["correct"] is None
        page = (tmp_path / "gpu.md").read_text()
        assert "| bert | 1.000000 | yes |" in page
        assert "not checked to the end" in page

    @pytest.mark.parametrize(("passed", "correct"), [(True, True), (False, False)])
    def test_correct_is_what_every_row_is(
        self, passed: bool, correct: bool, tmp_path: Path
    ) -> None:
        record = self.record(tmp_path)
        for name, right in (("correctness", True), ("threads", passed)):
            record.begin(name)
            record.add(name, {"shape": "e5-small", "passed": right, "min_cosine": 0.5})
            record.end(name, Ending("done"), 1.0)
        assert self.content(tmp_path)["correct"] is correct
        assert ("**Wrong**: e5-small" in (tmp_path / "gpu.md").read_text()) is not correct

    def test_correctness_without_a_row_shows_nothing(self, tmp_path: Path) -> None:
        record = self.record(tmp_path)
        record.begin("correctness")
        record.end("correctness", Ending("done"), 1.0)
        assert record.correct is None

    def test_the_page_has_errors_absences_and_aims(self, tmp_path: Path) -> None:
        record = self.record(tmp_path)
        record.begin("throughput")
        speed = {"texts_per_second": 90_123.4, "over_float16": 2.5, "over_default": 31.0}
        record.add("throughput", {"shape": "e5-small", "system": "core auto", **speed})
        record.add("throughput", {"shape": "e5-small", "system": "x", "absent": "not installed"})
        record.add("throughput", {"shape": "e5-small", "system": "y", "error": "KeyError: 'z'"})
        record.end("throughput", Ending("stopped", "after 140 seconds"), 140.0)
        page = (tmp_path / "gpu.md").read_text()
        assert "**stopped**: after 140 seconds" in page
        assert "- e5-small, x: not installed" in page
        assert "- e5-small, y: KeyError: 'z'" in page
        assert "| e5-small: texts/s | 80,000 | 90,123 |" in page


def test_onnx_runtime_without_cuda_is_named() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this one has CUDA")
    with pytest.raises(NotHereError, match=r"has no CUDAExecutionProvider.*onnxruntime-gpu"):
        check_runtime()
