"""The benchmark's harness, on made-up systems and figures: what it measures needs real ones."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import comparison, report, results, texts
from benchmarks.plan import FULL, QUICK, QUICK_SECTIONS, SECTIONS
from benchmarks.process import Worker, WorkerFailedError
from benchmarks.run import main, measure
from benchmarks.scaling_tables import cost_curves
from benchmarks.summary import best_peer_ratio, summarize_latency, summarize_throughput
from benchmarks.systems import REFERENCE, System
from benchmarks.volume import summarize_stream
from core.tuning.measure import Budget

#: A peer's interpreter: answers every command at once, unless it must behave otherwise.
PEER = """#!{python}
import json, sys, time
spec = json.loads(sys.argv[2])
print(json.dumps({{"memory": {{"now": 1.0}}, "megabytes": 2.0}}), flush=True)
for line in sys.stdin:
    command = json.loads(line)
    if command["do"] == spec.get("dies at"):
        sys.exit("ValueError: no such model")
    if command["do"] == spec.get("hangs at"):
        time.sleep(60)
    print(json.dumps({{"seconds": [0.1, 0.1, 0.1, 0.5]}}), flush=True)
"""


class Peer(System):
    """A system whose interpreter is the program that its environment names."""

    @property
    def interpreter(self) -> Path:
        return Path(self.environment)


@pytest.fixture
def peer(tmp_path: Path) -> Path:
    script = tmp_path / "peer"
    script.write_text(PEER.format(python=sys.executable))
    script.chmod(0o755)
    return script


class TestTexts:
    def test_texts_of_a_mix_differ_and_have_the_stated_lengths(self) -> None:
        for name, rows in texts.workloads(2.0).items():
            shortest, longest = texts.LENGTHS[name]
            assert len(rows) == 2 * texts.COUNTS[name]
            assert len(set(rows)) == len(rows)
            assert shortest <= min(map(len, rows))
            assert max(map(len, rows)) <= longest

    @pytest.mark.parametrize("count", [2, 24, 400])
    def test_mean_lengths_are_those_of_the_reference(self, count: int) -> None:
        for name, mean in (("short", 39), ("middle", 620), ("long", 9_589)):
            rows = texts.mix(name, count)
            assert sum(map(len, rows)) / count == pytest.approx(mean, abs=0.5)

    def test_streamed_texts_differ(self) -> None:
        assert len(set(texts.stream(250_000))) == 250_000

    def test_a_part_has_the_mix_of_lengths_of_all(self) -> None:
        rows = texts.workloads(2.0)["mixed"]
        chosen = texts.part(rows, 0.1)
        assert chosen == sorted(set(chosen))
        assert len(chosen) == 20
        mean = sum(map(len, rows)) / len(rows)
        assert sum(len(rows[i]) for i in chosen) / len(chosen) == pytest.approx(mean, rel=0.15)


class TestWorkers:
    def test_one_that_does_not_answer_in_time_is_ended(self, peer: Path, tmp_path: Path) -> None:
        worker = Worker(peer, {"hangs at": "encode"}, tmp_path / "log")
        with pytest.raises(WorkerFailedError, match=r"slower than 0\.2 seconds: encode short"):
            worker.ask(do="encode", workload="short", deadline=0.2)
        with pytest.raises(ValueError, match="closed file"):
            worker.ask(do="memory")

    def test_one_that_ends_says_why(self, peer: Path, tmp_path: Path) -> None:
        worker = Worker(peer, {"dies at": "encode"}, tmp_path / "log")
        with pytest.raises(WorkerFailedError, match=r"(?s)exit code 1.*no such model"):
            worker.ask(do="encode")

    def test_a_failure_loses_that_system_only(
        self, peer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(comparison, "WORK", tmp_path)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        good = Peer("good", str(peer), "fp32", {"kind": "peer"})
        bad = Peer("bad", str(peer), "fp32", {"kind": "peer", "dies at": "latency"})
        absent = Peer("absent", "/bin/false", "fp32", {"kind": "peer"}, ("nothing",))
        workloads = {"short": ["a", "b"]}
        bench = comparison.Comparison([bad, good], workloads)
        try:
            found = comparison.latency(bench, Budget(60), most=2, least=2, calls=1)
        finally:
            bench.close()
        assert list(bench.failures) == ["bad"]
        assert found["systems"]["good"]["seconds"] == [[0.5], [0.5]]
        sizes = comparison.size([good, absent])
        assert sizes["systems"]["good"]["megabytes"] == 2.0
        assert list(sizes["failures"]) == ["absent"]


class TestBudget:
    def test_the_least_rounds_happen_in_any_case(self) -> None:
        assert list(Budget(-1).rounds(most=7, least=5)) == [0, 1, 2, 3, 4]
        assert list(Budget(60).rounds(most=7, least=5)) == list(range(7))

    def test_plans_end_in_time(self) -> None:
        # Loading has no budget: some four minutes, two of a quick run.
        others = [FULL.seconds[name] for name in SECTIONS if name != "size"]
        assert sum(others) <= 36 * 60
        quick = [QUICK.seconds[name] for name in QUICK_SECTIONS if name != "size"]
        assert sum(quick) <= 12 * 60


def entry(seconds: list[float], **fields: Any) -> dict[str, Any]:
    return {
        "ours": False,
        "precision": "fp32",
        "texts": {"short": 10},
        "flops": {"short": 1e9},
        "seconds": {"short": seconds},
        **fields,
    }


class TestSummary:
    def test_ratios_are_of_rounds_and_of_texts_a_second(self) -> None:
        found: dict[str, Any] = {
            "sgemm_gflops": {"short": [10.0, None, 10.0]},
            "systems": {
                REFERENCE: entry([1.0, 2.0, 4.0]),
                "failed after a round": entry([0.5]),
                "half the texts": entry([1.0, 2.0, 4.0], texts={"short": 5}),
                "core": entry([0.25, 0.5, 1.0], ours=True),
            },
        }
        summarize_throughput(found)
        ratios = {name: system["ratio"]["short"] for name, system in found["systems"].items()}
        assert ratios == {
            REFERENCE: 1.0,
            "failed after a round": 2.0,
            "half the texts": 0.5,
            "core": 4.0,
        }
        assert best_peer_ratio(found["systems"], "core") == ("failed after a round", 2.0)

    @pytest.mark.parametrize(("precision", "compared"), [("fp32", True), ("bf16", False)])
    def test_latency_is_compared_on_the_same_runtime_and_precision(
        self, precision: str, compared: bool
    ) -> None:
        peer = "sentence-transformers openvino"
        systems: dict[str, Any] = {
            peer: {"precision": precision, "seconds": [[2.0], [8.0]]},
            "core openvino fp32": {"precision": "fp32", "seconds": [[1.0], [4.0]]},
        }
        summarize_latency({"systems": systems})
        assert ("same_runtime" in systems["core openvino fp32"]) is compared
        if compared:
            assert systems["core openvino fp32"]["same_runtime"] == {"peer": peer, "ratio": 0.5}

    def test_growth_of_a_stream_counts_from_10_000_texts(self) -> None:
        trace = [[2_000, 50.0, 1.0], [10_000, 120.0, 5.0], [12_000, 150.0, 6.0]]
        found = summarize_stream(trace)
        assert found["growth"] == 30.0
        assert "growth" not in summarize_stream(trace[:1])

    def test_a_cost_curve_goes_on_in_the_stream(self) -> None:
        trace = [[1_000, 1.0, 9.0], [2_000, 1.0, 4.0]]
        found = {
            "encode": [{"system": "onnx", "texts": 1_000, "seconds": 3.0}],
            "streams": {"onnx": {"trace": trace}},
        }
        assert cost_curves(found) == {"onnx": [(1_000, 3.0), (2_000, 2.0)]}


def run_of(started: str, *, complete: bool) -> dict[str, Any]:
    return {
        "key": started,
        "started": started,
        "commit": "abc",
        "options": "",
        "complete": complete,
        "load_before": 0.0,
        "machine": {"processor": "X"},
        "versions": {},
    }


def empty(failures: dict[str, str] | None = None) -> dict[str, Any]:
    return {"failures": failures or {}}


class TestResults:
    def test_every_section_is_on_disk_before_the_next(self, tmp_path: Path) -> None:
        seen = []

        def section(name: str) -> dict[str, Any]:
            seen.append(list(results.read(tmp_path)))
            if name == "latency":
                raise RuntimeError("out of order")
            return empty()

        kept = results.Results(tmp_path, run_of("1", complete=False))
        measure(["throughput", "latency", "startup"], section, kept)
        assert seen == [[], ["throughput"], ["throughput", "latency"]]
        failures = results.read(tmp_path)["latency"]["failures"]
        assert failures == {"latency": "RuntimeError: out of order"}

    def test_a_second_run_measures_what_is_missing(self, tmp_path: Path) -> None:
        def measured(started: str, key: str) -> list[str]:
            seen: list[str] = []

            def section(name: str) -> dict[str, Any]:
                seen.append(name)
                if (name, started) == ("latency", "1"):
                    raise RuntimeError("out of order")
                return {"rows": [1], **empty()}

            run = {**run_of(started, complete=False), "key": key}
            measure(["throughput", "latency"], section, results.Results(tmp_path, run))
            return seen

        assert measured("1", "same") == ["throughput", "latency"]
        assert measured("2", "same") == ["latency"]
        assert len(results.runs(results.read(tmp_path))) == 1
        assert measured("3", "of another commit") == ["throughput", "latency"]

    def test_sections_of_different_runs_are_told_apart(self, tmp_path: Path) -> None:
        first = results.Results(tmp_path, run_of("2026-11-25 10:00:00", complete=True))
        for name in SECTIONS:
            first.put(name, empty(), 1.0)
        assert results.is_complete(first.sections, SECTIONS)
        second = results.Results(tmp_path, run_of("2026-11-26 10:00:00", complete=True))
        second.put("latency", empty({"a peer": "Traceback:\nKeyError: 'x'\n 26: _start"}), 1.0)
        assert not results.is_complete(second.sections, SECTIONS)
        report.write_report(tmp_path)
        text = (tmp_path / "benchmark.md").read_text()
        assert "different runs" in text
        assert "| latency | 2026-11-26 10:00:00 |" in text
        assert "**a peer failed** (latency): KeyError: 'x'\n" in text

    def test_results_of_another_format_are_left_behind(self, tmp_path: Path) -> None:
        (tmp_path / "benchmark.json").write_text(json.dumps({"systems": {}}))
        assert results.read(tmp_path) == {}

    def test_a_shortened_run_is_not_complete(self, tmp_path: Path) -> None:
        kept = results.Results(tmp_path, run_of("1", complete=False))
        for name in SECTIONS:
            kept.put(name, empty(), 1.0)
        assert not results.is_complete(kept.sections, SECTIONS)


def test_the_pages_have_what_the_records_say() -> None:
    found = report.blocks(results.read(results.RESULTS), report.records(results.RESULTS))
    docs = Path(__file__).resolve().parents[1] / "docs"
    assert found["performance.md", "benchmark"]
    assert found["choosing.md", "flow chart"]
    for (page, name), content in found.items():
        text = (docs / page).read_text(encoding="utf-8")
        assert text == report.with_block(text, name, content), (
            f"python -m benchmarks.report: {name}"
        )


def test_the_drawings_have_what_the_records_say() -> None:
    folder = Path(__file__).resolve().parents[1] / "docs" / "benchmark"
    drawn = report.drawings(results.read(results.RESULTS), report.records(results.RESULTS))
    assert {path.name for path in folder.glob("*.svg")} == set(drawn)
    for name, content in drawn.items():
        assert (folder / name).read_text(encoding="utf-8") == content, name


def test_the_page_tells_of_the_million_texts_what_the_stream_wrote_down() -> None:
    root = Path(__file__).resolve().parents[1]
    trace = json.loads((root / "benchmarks/results/stream_minilm_int8.json").read_text())
    found = summarize_stream(trace)
    page = " ".join((root / "docs/performance.md").read_text(encoding="utf-8").split())
    settled, peak, last = found["memory_settled"], found["memory_peak"], trace[-1][1]
    assert found["texts"] == 1_000_000
    assert found["growth"] < 200
    assert (
        f"took {found['seconds']:.0f} seconds: {settled:.0f} MB were resident after the first "
        f"10,000 texts, {peak:.0f} MB at most, {last:.0f} MB after the last"
    ) in page


@pytest.mark.parametrize("minutes", ["0", "-3", "nan"])
def test_streams_take_some_time(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--stream-minutes", minutes])
    assert ended.value.code == 2
    assert "--stream-minutes must be more than 0" in capsys.readouterr().err
