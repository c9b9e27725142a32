"""The benchmark of variants: on systems that are made up, and once on a tiny model of its own."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import grid, group, libraries, model_files, quality, report, run
from benchmarks.cells import Record, is_whole, merged, read_record
from benchmarks.flowchart import answers, described
from benchmarks.model_files import FileFailedError, Recipe
from benchmarks.plan import FULL, GridPlan
from benchmarks.sizes import Found, Size
from benchmarks.systems import REFERENCE, System
from benchmarks.variant_summary import Figures, Summary
from benchmarks.variants import Variant, variants
from core.tuning.labels import Pairs
from core.tuning.measure import Budget

#: A system that embeds a text by its length, and takes as long as it is told.
WORKER = """#!{python}
import json, sys
spec = json.loads(sys.argv[2])
print(json.dumps({{}}), flush=True)
texts = json.load(open(spec["texts"]))
for line in sys.stdin:
    command = json.loads(line)
    if command["do"] == spec.get("dies at"):
        sys.exit("ValueError: no such model")
    if command["do"] == "save":
        import numpy as np
        rows = json.load(open(command["texts"]))
        angles = [len(text) / 40 + spec["drift"] * number for number, text in enumerate(rows)]
        np.save(command["file"], np.stack([np.cos(angles), np.sin(angles)], 1).astype("float32"))
        print("{{}}", flush=True)
    else:
        seconds = spec["pace"] * len(command["rows"])
        open(spec["log"], "a").write(json.dumps(command) + "\\n")
        print(json.dumps({{"seconds": seconds}}), flush=True)
"""

SPEEDS = {REFERENCE: 1.0, "core onnx fp32": 0.5, "core onnx int8": 0.25, "core torch fp32": 0.8}


class Program(System):
    """A system whose interpreter is the program that its environment names."""

    @property
    def interpreter(self) -> Path:
        return Path(self.environment)


@dataclass(frozen=True)
class Made(Variant):
    """A variant that is a program; `arguments` is what it is told."""

    program: str = ""

    def prepare(self, model: Path, patience: float = 1.0) -> System:
        if "cannot" in self.arguments:
            raise FileFailedError(str(self.arguments["cannot"]))
        return Program(self.name, self.program, self.precision, dict(self.arguments), self.needs)


@dataclass
class Bench:
    """A grid over made-up systems and one size of model; a run's file is `record.json`."""

    folder: Path
    systems: dict[str, Made]
    sizes: dict[str, Size]
    plan: GridPlan
    run: dict[str, Any]

    def measure(self, budget: float = 60.0, only: str = "") -> dict[str, Any]:
        record = Record(self.folder / "record.json", self.run)
        grid.Grid(record, self.plan, only, Budget(budget)).measure()
        return read_record(self.folder / "record.json")

    def asked(self) -> list[dict[str, Any]]:
        log = self.folder / "log"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def name_size(self, name: str) -> None:
        """From now on the one size of model has another name."""
        (size,) = self.sizes.values()
        found = replace(size.find(), title=f"a {name} model, 1M")
        self.sizes.clear()
        self.sizes[name] = replace(size, name=name, find=lambda: found)
        self.plan = replace(self.plan, sizes=(name,))

    def change(self, name: str, **told: Any) -> None:
        variant = self.systems[name]
        self.systems[name] = replace(variant, arguments={**variant.arguments, **told})


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    program = tmp_path / "program"
    program.write_text(WORKER.format(python=sys.executable))
    program.chmod(0o755)
    systems = {}
    for number, (name, pace) in enumerate(SPEEDS.items()):
        told = {"pace": pace, "drift": 0.05 * number, "log": str(tmp_path / "log")}
        precision = name.rpartition(" ")[2] if name != REFERENCE else "fp32"
        ours = "" if name != REFERENCE else "st"
        recipe = Recipe("onnx", (), ours)
        systems[name] = Made(name, precision, recipe, (), told, program=str(program))
    model = tmp_path / "model"
    model.mkdir()
    size = Size(
        "tiny",
        0.0,
        lambda: Found(model, "a tiny model, 1M", real=True),
        {"short": 16, "middle": 8, "long": 2},
    )
    task = quality.similarity(
        "pairs", Pairs(("a", "bb", "ccc", "dd"), ("bbbb", "c", "aaaaa", "e" * 30), np.arange(4.0))
    )
    monkeypatch.setattr(grid, "variants", lambda: dict(systems))
    sizes = {"tiny": size}
    monkeypatch.setattr(grid, "SIZES", sizes)
    monkeypatch.setattr(group, "WORK", tmp_path)
    monkeypatch.setattr(grid, "build", lambda environment: Path())
    monkeypatch.setattr(grid, "versions", lambda environment: {"sentence-transformers": "6.2.0"})
    monkeypatch.setattr(grid, "tasks", lambda pairs, queries: [task])
    monkeypatch.setattr(grid, "_tokens", lambda folder, rows: dict.fromkeys(rows, 10.0))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    plan = GridPlan(sizes=("tiny",), rounds=3, batches=(8,), batch_rounds=1)
    return Bench(tmp_path, systems, sizes, plan, run_of("a"))


def run_of(key: str) -> dict[str, Any]:
    return {
        "key": key,
        "started": "2026-11-27 10:00:00",
        "commit": "abc",
        "options": "",
        "complete": True,
        "load_before": 0.0,
        "machine": {
            "processor": "AMD EPYC",
            "cores": 2,
            "memory GB": 24,
            "vector instructions": ["avx2", "avx512f", "avx512_vnni"],
        },
        "versions": {"torch": "2"},
    }


class TestGrid:
    def test_speeds_are_ratios_to_the_reference_in_the_same_round(self, bench: Bench) -> None:
        summary = Summary(bench.measure())
        figures = summary.figures()
        assert {name: figures[name].speed for name in SPEEDS} == pytest.approx(
            {name: 1 / pace for name, pace in SPEEDS.items()}
        )
        assert summary.ratios("tiny", "core onnx int8", "long") == pytest.approx([4.0] * 3)
        assert summary.ratio("tiny", "core onnx int8", "middle", "8") == pytest.approx(4.0)
        assert summary.ratio("tiny", "core onnx int8", "long", "8") is None

    def test_quality_is_a_share_of_the_references(self, bench: Bench) -> None:
        summary = Summary(bench.measure())
        own = summary.quality("tiny", "core onnx int8", "Spearman on pairs")
        base = summary.quality("tiny", REFERENCE, "Spearman on pairs")
        assert own is not None
        assert base is not None
        quotient = summary.figures()["core onnx int8"].quality
        assert quotient == pytest.approx(own["value"] / base["value"])
        assert base["cosine"]["min"] == pytest.approx(1.0)
        assert own["cosine"]["min"] < 1.0

    def test_systems_take_turns(self, bench: Bench) -> None:
        bench.measure(only="int8")
        long = [c["rows"] for c in bench.asked() if (c["workload"], c["batch"]) == ("long", None)]
        # Two passes of each to warm up, then three rounds of both.
        assert len(long) == 4 + 6

    def test_a_second_run_measures_what_is_missing(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put, left = Record.put, [9]

        def broken_off(self: Record, table: str, *names: str, value: Mapping[str, Any]) -> None:
            put(self, table, *names, value=value)
            left[0] -= table == "speed"
            if not left[0]:
                raise KeyboardInterrupt

        monkeypatch.setattr(Record, "put", broken_off)
        with pytest.raises(KeyboardInterrupt):
            bench.measure()
        monkeypatch.setattr(Record, "put", put)
        first = read_record(bench.folder / "record.json")["speed"]
        assert len(first) == 9
        for name in SPEEDS:
            bench.change(name, pace=7.0)  # whatever is measured again would show
        found = bench.measure()
        cells = 4 * 5  # systems; three lengths, and two of them in batches of 8
        assert len(found["speed"]) == cells
        assert {key: found["speed"][key] for key in first} == first
        asked = len(bench.asked())
        assert bench.measure() == found
        assert len(bench.asked()) == asked

    def test_figures_of_another_key_are_not_mixed(self, bench: Bench) -> None:
        bench.measure()
        other = Record(bench.folder / "record.json", run_of("of another commit"))
        assert not other.content["speed"]
        assert not other.content["systems"]

    def test_a_broken_record_is_begun_anew(self, bench: Bench) -> None:
        (bench.folder / "record.json").write_text('{"format": 1, "run": {"key": "a"')
        assert len(bench.measure()["speed"]) == 20

    def test_a_failure_loses_that_system_only_and_is_tried_again(self, bench: Bench) -> None:
        bench.change("core onnx int8", **{"dies at": "encode"})
        bench.change("core torch fp32", cannot="needs more memory")
        found = bench.measure()
        assert "no such model" in found["failures"]["tiny/core onnx int8"]["reason"]
        assert "needs more memory" in found["failures"]["tiny/core torch fp32"]["reason"]
        assert Summary(found).figures()["core onnx fp32"].speed == pytest.approx(2.0)
        text = report.record_report(found)
        assert "**core torch fp32 failed** with a tiny model, 1M: FileFailedError: needs" in text
        told = {"pace": 0.25, "drift": 0.0, "log": str(bench.folder / "log")}
        for name in ("core onnx int8", "core torch fp32"):
            bench.systems[name] = replace(bench.systems[name], arguments=told)
        found = bench.measure()
        assert not found["failures"]
        assert len(found["speed"]) == 20

    def test_without_the_reference_nothing_is_measured(self, bench: Bench) -> None:
        bench.change(REFERENCE, cannot="no such environment")
        found = bench.measure()
        assert not found["speed"]
        assert list(found["failures"]) == [f"tiny/{REFERENCE}"]

    def test_a_slow_system_gets_fewer_texts(self, bench: Bench) -> None:
        bench.change("core torch fp32", pace=8.0)
        found = bench.measure()
        cell = found["speed"]["tiny/core torch fp32/short/default"]
        assert cell["texts"] == 8  # of 16, at 8 times the time, in 4 times the reference's pass
        assert Summary(found).ratio("tiny", "core torch fp32", "short") == pytest.approx(1 / 8)
        bench.change("core torch fp32", pace=80.0)
        (bench.folder / "record.json").unlink()
        found = bench.measure()
        # It cannot fill a batch of 8 in the time.
        assert Summary(found).ratio("tiny", "core torch fp32", "short", "8") is None
        assert is_whole(found)

    def test_a_system_that_is_slow_with_a_single_text_gets_one_round(self, bench: Bench) -> None:
        (size,) = bench.sizes.values()
        bench.sizes["tiny"] = replace(size, texts={**size.texts, "long": 1})
        bench.change("core torch fp32", pace=20.0)
        found = bench.measure()
        assert len(found["speed"][f"tiny/{REFERENCE}/long/default"]["seconds"]) == 3
        cell = found["speed"]["tiny/core torch fp32/long/default"]
        assert cell["seconds"] == [20.0]
        assert Summary(found).ratios("tiny", "core torch fp32", "long") == pytest.approx([1 / 20])
        # Neither a second pass to warm up nor more than one round: 20 seconds speak for themselves.
        slow = [c for c in bench.asked() if c["workload"] == "long" and c["rows"] == [0]]
        assert len(slow) == 3 * (1 + 1 + 3) + 2
        assert is_whole(found)

    def test_what_only_many_texts_open_is_open_before_the_first_round(self, bench: Bench) -> None:
        bench.plan = replace(bench.plan, batches=(), rounds=4)
        (size,) = bench.sizes.values()
        bench.sizes["tiny"] = replace(size, texts={"short": 16, "middle": 1})
        bench.measure()

        def sizes(workload: str) -> list[int]:
            return [len(c["rows"]) for c in bench.asked() if c["workload"] == workload]

        # Passes of 4, 8 and 13 seconds once more than the one of 16, each in half the rounds.
        assert sizes("short").count(16) == 3 * (1 + 2) + 2
        assert sizes("middle") == [1] * 4 * (1 + 1 + 4)

    def test_a_run_ends_in_time_and_goes_on_later(self, bench: Bench) -> None:
        record = Record(bench.folder / "record.json", bench.run)
        assert not grid.Grid(record, bench.plan, "", Budget(0)).measure()
        assert not record.content["speed"]
        assert not record.content["failures"]
        assert len(bench.measure()["speed"]) == 20

    @pytest.mark.parametrize(("weights", "available", "count"), [(0.09, 21, 17), (2.27, 21, 3)])
    def test_as_many_systems_as_the_memory_holds(
        self, weights: float, available: float, count: int
    ) -> None:
        assert grid.group_size(weights, available) == count
        assert grid.group_size(weights, 1.0) == 2


class TestReport:
    def test_the_pages_show_a_record(self, bench: Bench, tmp_path: Path) -> None:
        folder, docs = tmp_path / "results", tmp_path / "docs"
        folder.mkdir()
        docs.mkdir()
        shutil.copyfile(report.DOCS / "performance.md", docs / "performance.md")
        shutil.copyfile(report.DOCS / "choosing.md", docs / "choosing.md")
        before = (docs / "performance.md").read_text()
        content = bench.measure()
        (folder / "variants-amd-epyc.json").write_text(json.dumps(content))
        assert report.is_publishable(folder)
        report.update_pages(folder, docs)
        page = (docs / "performance.md").read_text()
        assert "| core onnx int8 | 4.00 | 4.00 | 4.00 | 4.00 |" in page
        assert "#### Every variant on AMD EPYC with AVX-512, VNNI" not in page
        assert "### Every variant on AMD EPYC with AVX-512, VNNI" in page
        assert "](benchmark/speedup-amd-epyc.svg)" in page
        # The comparison with other libraries stays as it was: this folder has none.
        assert before.partition("<!-- benchmark:")[2] == page.partition("<!-- benchmark:")[2]
        assert "core onnx int8 (4.0 times)" in (docs / "choosing.md").read_text()
        for name in ("speedup", "performance", "choosing"):
            drawn = (docs / "benchmark" / f"{name}-amd-epyc.svg").read_text()
            assert drawn.startswith("<svg")
        assert "4.00x" in (docs / "benchmark" / "speedup-amd-epyc.svg").read_text()

    def test_a_record_that_was_broken_off_is_not_published(
        self, bench: Bench, tmp_path: Path
    ) -> None:
        file = tmp_path / "variants-x.json"
        partial = bench.measure(only="torch")
        assert partial["sizes"]["tiny"]["missing"] == ["core onnx fp32", "core onnx int8"]
        assert "**Without core onnx fp32, core onnx int8.**" in report.record_report(partial)
        file.write_text(json.dumps(partial))
        assert not report.is_publishable(tmp_path)
        content = bench.measure()
        file.write_text(json.dumps(content))
        assert report.is_publishable(tmp_path)
        content["sizes"]["tiny"]["run"] |= {"complete": False, "options": "rounds 1"}
        file.write_text(json.dumps(content))
        assert not report.is_publishable(tmp_path)
        assert "**A shortened run (rounds 1).**" in report.record_report(content)

    def test_sizes_of_different_runs_stand_beside_each_other(self, bench: Bench) -> None:
        first = bench.measure()
        bench.change("core onnx int8", pace=0.125)
        bench.run = {**run_of("b"), "started": "2026-11-28 11:00:00"}
        bench.name_size("small")
        bench.change("core torch fp32", cannot="needs more memory")
        second = bench.measure()
        both = merged(merged({}, second, ["tiny", "small"]), first, ["tiny", "small"])
        assert both == merged(merged({}, first, ["tiny", "small"]), second, ["tiny", "small"])
        summary = Summary(both)
        assert summary.sizes == ["tiny", "small"]
        assert summary.ratio("tiny", "core onnx int8", "short") == pytest.approx(4)
        assert summary.ratio("small", "core onnx int8", "short") == pytest.approx(8)
        assert list(both["failures"]) == ["small/core torch fp32"]
        told = report.record_report(both)
        assert "- a tiny model, 1M: 2026-11-27 10:00:00, commit abc" in told
        assert "- a small model, 1M: 2026-11-28 11:00:00, commit abc" in told

    def test_a_size_that_is_not_whole_replaces_none_that_is(self, bench: Bench) -> None:
        whole = bench.measure()
        bench.change("core onnx fp32", pace=9.0)
        bench.run = run_of("b")
        partial = bench.measure(only="fp32")
        kept = merged(whole, partial, ["tiny"])
        assert kept["sizes"] == whole["sizes"]
        assert kept["speed"] == whole["speed"]
        assert kept["quality"] == whole["quality"]
        assert merged(partial, whole, ["tiny"])["speed"] == whole["speed"]
        assert merged(partial, partial, ["tiny"])["speed"] == partial["speed"]

    def test_the_flow_chart_names_the_fastest_for_each_answer(self) -> None:
        def of(precision: str, speed: float, quality: float | None = 1.0) -> Figures:
            return Figures(ours=True, precision=precision, speed=speed, quality=quality)

        figures = {
            "core torch fp32": of("fp32", 2.0),
            "core onnx fp32": of("fp32", 3.0),
            "core openvino bf16": of("bf16", 5.0, 0.999),
            "core onnx int8": of("int8", 6.0, 0.98),
            "core openvino int8": of("int8", 9.0, 0.5),
            "core torch int8": of("int8", 8.0, None),
            "peer": replace(of("fp32", 9.0), ours=False),
        }
        found = answers(figures)
        assert found.exact == "core onnx fp32"
        assert found.exact_torch == "core torch fp32"
        assert found.lossy == ("core openvino bf16", "core onnx int8")
        assert "core onnx int8 (6.0 times)" in described(figures, "X")
        with pytest.raises(KeyError, match="torch in float32"):
            answers({"core onnx fp32": figures["core onnx fp32"]})
        with pytest.raises(KeyError, match="quality"):
            answers({name: replace(found, quality=None) for name, found in figures.items()})


class TestFiles:
    def test_files_are_made_once_and_removed_when_nothing_needs_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = []

        def write(command: list[str], where: Path, patience: float, what: str) -> str:
            _, _, _, folder, _, source, *step = command
            made.append((source, *step))
            name = f"{'-'.join(step).replace(' ', '-')}.onnx"
            (Path(folder) / name).write_text("weights")
            return name

        monkeypatch.setattr(model_files, "_run", write)
        int8 = Recipe("onnx", ("optimize O2", "quantize auto"))
        fused = Recipe("onnx", ("optimize O2",))
        assert model_files.make(tmp_path, int8) == (tmp_path, "quantize-auto.onnx")
        assert model_files.make(tmp_path, fused) == (tmp_path, "optimize-O2.onnx")
        assert made == [
            ("model.safetensors", "export"),
            ("export.onnx", "optimize", "O2"),
            ("optimize-O2.onnx", "quantize", "auto"),
        ]
        model_files.remove(tmp_path, [int8], keep=[fused])
        assert {p.name for p in tmp_path.glob("*.onnx")} == {"export.onnx", "optimize-O2.onnx"}
        model_files.remove(tmp_path, [int8, fused], keep=[])
        assert not list(tmp_path.glob("*.onnx"))
        model_files.make(tmp_path, fused)
        assert len(made) == 5

    def test_a_file_that_cannot_be_made_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(FileFailedError, match=r"(?s)onnx: exit code 1.*ModelNotFound"):
            model_files.make(tmp_path / "nothing", Recipe("onnx"))


class TestQuality:
    def test_lee_has_the_figures_of_scipy_and_scikit_learn(self) -> None:
        from scipy.stats import spearmanr

        generator = np.random.default_rng(0)
        judged = generator.random((12, 12)).round(1)
        rows = generator.normal(size=(12, 5)).astype(np.float32)
        similarity, retrieval = quality.lee([f"text {i}" for i in range(12)], judged)
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        close, above = unit @ unit.T, np.triu_indices(12, 1)
        expected = spearmanr(judged[above], close[above]).statistic
        assert similarity.score(rows) == pytest.approx(100 * expected)
        metrics = pytest.importorskip("sklearn.metrics")
        full = np.triu(judged, 1) + np.triu(judged, 1).T
        others = ~np.eye(12, dtype=bool)
        gains, scores = (square[others].reshape(12, 11) for square in (full, close))
        assert retrieval.score(rows) == pytest.approx(100 * metrics.ndcg_score(gains, scores, k=10))

    def test_a_part_of_the_data_has_every_answer_of_its_queries(self) -> None:
        if not (quality.DATA / "cranfield").exists():
            pytest.skip("Cranfield is not here")
        sick, cranfield = quality.tasks(pairs=50, queries=5)
        assert (sick.name, cranfield.name) == ("Spearman on SICK", "NDCG@10 on Cranfield")
        assert len(sick.texts) <= 100
        perfect = np.zeros((len(cranfield.texts), 2), np.float32)
        assert 0 <= cranfield.score(perfect + 1) <= 100
        assert 30 < len(cranfield.texts) < 200


def test_variants_are_those_of_the_reference_and_ours() -> None:
    known = variants()
    theirs = {name.removeprefix("sentence-transformers ") for name in known if "core" not in name}
    assert theirs == {
        "torch", "torch fp16", "torch bf16",
        "onnx", "onnx O1", "onnx O2", "onnx O3", "onnx O4", "onnx int8",
        "openvino", "openvino static int8",
    }  # fmt: skip
    backends = {v.recipe.backend for v in known.values() if v.ours}
    assert backends == {"torch", "onnx", "openvino"}
    assert set(libraries._OURS) - {"core openvino bf16"} <= set(known)
    assert set(libraries._THEIRS) <= set(known)


@pytest.mark.slow
def test_the_whole_path_on_a_tiny_model(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files made, systems loaded, measured, reported; ours stands in for the reference."""
    model = tmp_path / "work" / "model"
    shutil.copytree(tiny_model("bert-mean"), model)
    settings = model / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "model_max_length": 64}))
    known = variants()
    reference = replace(known["core onnx fp32"], name=REFERENCE)
    names = ("core torch fp32", "core onnx int8")
    chosen = {REFERENCE: reference, **{name: known[name] for name in names}}
    size = Size(
        "tiny",
        0.001,
        lambda: Found(model, "a tiny model", real=True),
        {"short": 8, "middle": 4, "long": 2},
        keeps_files=False,
    )
    texts = [f"text {'word ' * n}" for n in range(6)]
    judged = np.triu(np.random.default_rng(0).random((6, 6)).round(2), 1)
    work = tmp_path / "work"
    for module in (group, run, model_files):
        monkeypatch.setattr(module, "WORK", work)
    monkeypatch.setattr(grid, "variants", lambda: chosen)
    monkeypatch.setattr(run, "variants", dict)
    monkeypatch.setattr(grid, "SIZES", {"tiny": size})
    monkeypatch.setattr(grid, "tasks", lambda pairs, queries: list(quality.lee(texts, judged)))
    small = GridPlan(sizes=("tiny",), rounds=2, batches=(8,), batch_rounds=1)
    monkeypatch.setattr(run, "FULL", replace(FULL, grid=small))
    output = tmp_path / "results"
    assert run.main(["--sections", "variants", "--output", str(output)]) == 0
    (file,) = output.glob("variants-*.json")
    found = Summary(read_record(file))
    assert is_whole(found.record)
    for name in chosen:
        assert found.figures()[name].speed is not None
    assert found.quality_ratio("tiny", "core torch fp32", "NDCG@10 on Lee") == pytest.approx(1)
    assert "core onnx int8" in (output / "benchmark.md").read_text()
    assert not list(model.glob("onnx/*.onnx")), "files of a large model are removed"
    assert run.main(["--sections", "variants", "--output", str(output)]) == 0
    assert read_record(file)["speed"] == found.record["speed"]
