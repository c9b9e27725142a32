"""`core.tune` on a backend whose variants differ by design: what is chosen, kept and refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats

import core
from core import CoreError, OptionError, TuneReport
from core.cli import main
from core.tuning.race import TuneProgress
from tests.tuning.toy_backend import PACE, toy_backend

FAST_ENOUGH = 0.2  # minutes; these models need seconds


@pytest.fixture
def toy() -> Iterator[None]:
    with toy_backend(["swift", "slow"], ["coarse", "noise", "broken"]):
        yield


@pytest.fixture
def slow_toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same, so slow that what else the machine does weighs little beside it."""
    monkeypatch.setattr("tests.tuning.toy_backend.PACE", 4 * PACE)
    with toy_backend(["swift", "slow"], ["coarse", "noise", "broken"]):
        yield


def tune(model: Path, texts: Any, **options: Any) -> TuneReport:
    options.setdefault("backends", ["toy"])
    options.setdefault("minutes", FAST_ENOUGH)
    return core.tune(model, texts, **options)


def by_name(report: TuneReport) -> dict[str, Any]:
    return {variant.name: variant for variant in report.variants}


@pytest.mark.usefixtures("toy")
def test_the_fastest_that_keeps_the_neighbours_is_chosen_and_loaded(
    model: Path, texts: list[str]
) -> None:
    report = tune(model, texts)
    assert report.best.name == "toy optimize swift"
    assert report.best.file_name == "toy/model_swift.safetensors"
    assert report.best.recall_at_10 == report.best.mixed_recall_at_10 == 1
    assert report.best.min_cosine == pytest.approx(1, abs=1e-6)
    assert report.best.speed_ratio is not None
    assert report.best.speed_ratio > 1
    assert report.reference.name == "toy float32"
    assert "the best of 5 variants that keeps recall@10 of at least 0.99" in report.reason
    found = by_name(report)
    assert found["toy quantize noise"].status == "dropped"
    assert "recall@10" in found["toy quantize noise"].note
    assert found["toy optimize slow"].status == "dropped"
    assert found["toy optimize slow"].note.endswith("times the speed of the best")
    assert found["toy quantize broken"].status == "failed"
    assert "broken on purpose" in found["toy quantize broken"].note
    # What a loader obeys.
    assert report.lock == model / "core_tuned.json"
    loaded = core.load(model)
    assert (loaded.backend, loaded.file_name) == ("toy", "toy/model_swift.safetensors")
    lock = json.loads(report.lock.read_text())
    assert lock["measured"]["recall_at_10"] == 1
    assert lock["objective"] == "throughput"


@pytest.mark.usefixtures("toy")
def test_every_figure_of_a_measured_variant_is_there(model: Path, texts: list[str]) -> None:
    best = tune(model, texts).best
    for name in (
        "texts_per_second", "speed_ratio", "p50_ms", "p99_ms", "resident_bytes", "start_s",
        "size_bytes", "mean_cosine", "p1_cosine", "min_cosine", "spearman", "recall_at_10",
        "mixed_recall_at_10",
    ):  # fmt: skip
        assert getattr(best, name) > 0, name
    assert best.p50_ms is not None
    assert best.p99_ms is not None
    assert best.p50_ms <= best.p99_ms
    assert best.size_bytes is not None
    assert best.size_bytes >= (model / "toy/model_swift.safetensors").stat().st_size
    assert best.texts == 120  # a fifth of the 150 calibrates
    assert (best.dtype, best.device, best.options) == ("float32", "cpu", {})


@pytest.mark.usefixtures("slow_toy")
def test_without_a_requirement_on_neighbours_drift_does_not_matter(
    model: Path, texts: list[str]
) -> None:
    assert tune(model, texts, min_recall=0).best.name == "toy quantize noise"


def test_a_variant_that_fails_is_not_counted_among_the_better(
    model: Path, texts: list[str]
) -> None:
    with toy_backend([], ["broken"]):
        report = tune(model, texts)
    assert "of 1 variant none that is better" in report.reason
    assert report.reason.endswith(" 1 more failed: its note says why.")


def test_where_nothing_is_good_enough_float32_stays_and_the_closest_is_named(
    model: Path, texts: list[str]
) -> None:
    with toy_backend([], ["coarse", "noise"]):
        report = tune(model, texts, min_cosine=0.9999)
    assert report.best.name == "toy float32"
    assert "toy quantize coarse comes closest: it misses minimum cosine by 0." in report.reason


@pytest.mark.usefixtures("toy")
def test_variants_that_no_time_was_left_for_are_not_said_to_be_worse(
    model: Path, texts: list[str]
) -> None:
    report = tune(model, texts, minutes=1e-9, write=False)
    assert {v.name for v in report.variants if v.status == "measured"} == {"toy float32"}
    assert "toy float32 (model.safetensors): of 1 variant none that is better" in report.reason
    assert "5 more were not tried" in report.reason


@pytest.mark.usefixtures("toy")
def test_a_second_run_measures_nothing_again_and_answers_another_question(
    model: Path, texts: list[str]
) -> None:
    first = tune(model, texts, write=False)
    told: list[TuneProgress] = []
    again = tune(model, texts, write=False, on_progress=told.append)
    assert [v.as_dict() for v in again.variants] == [v.as_dict() for v in first.variants]
    assert told == []
    # Another goal may want what was dropped, and runs the rounds that it missed; no more.
    loose = tune(model, texts, write=False, min_recall=0, on_progress=told.append)
    assert loose.best.name == "toy quantize noise"
    assert {progress.text.partition(" ")[0] for progress in told} == {"round"}
    tune(model, texts, write=False, fresh=True, on_progress=told.append)
    assert any("trying" in progress.text for progress in told)
    assert not any("making toy optimize" in progress.text for progress in told)


@pytest.mark.usefixtures("toy")
def test_what_found_no_room_on_the_disk_is_made_in_the_next_run(
    model: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise core.CoreError("Cannot write made: the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr("core.tuning.making.Maker.make", full)
        report = tune(model, texts, write=False)
    assert by_name(report)["toy optimize swift"].note == "Cannot write made: the disk is full."
    assert tune(model, texts, write=False).best.name == "toy optimize swift"


def test_variants_of_a_backend_that_is_slow_itself_are_still_there_in_a_second_run(
    model: Path, texts: list[str]
) -> None:
    slow = {"haste": 20.0}
    with toy_backend(["swift"]), toy_backend(["swift"], name="other", LOAD_CONFIGS={"slow": slow}):
        backends = ["other", "toy"]
        first = tune(model, texts, backends=backends, write=False)
        again = tune(model, texts, backends=backends, write=False)
    assert {v.name for v in first.variants} == {v.name for v in again.variants}
    assert {"other float32", "other slow", "other optimize swift"} <= set(by_name(again))


@pytest.mark.usefixtures("toy")
def test_a_run_that_is_interrupted_anywhere_leaves_nothing_and_goes_on(
    model: Path, texts: list[str]
) -> None:
    before = sorted(path for path in model.rglob("*"))

    def best_unless_stopped(after: int) -> str:
        steps = iter(range(after))

        def stop(progress: TuneProgress) -> None:
            if next(steps, None) is None:
                raise KeyboardInterrupt

        try:
            return tune(model, texts, on_progress=stop).best.name
        except KeyboardInterrupt:
            return ""

    stops = 0
    while not (best := best_unless_stopped(stops)):
        assert sorted(path for path in model.rglob("*")) == before
        stops += 1
        assert stops < 40
    assert stops > 5
    assert best == "toy optimize swift"
    assert (model / "core_tuned.json").is_file()


@pytest.mark.usefixtures("toy")
def test_a_target_gets_the_choice_alone_and_the_model_stays_as_it_was(
    model: Path, texts: list[str], tmp_path: Path
) -> None:
    before = sorted(path for path in model.rglob("*"))
    report = tune(model, texts, target=tmp_path / "out")
    assert sorted(path for path in model.rglob("*")) == before
    assert report.lock == tmp_path / "out/core_tuned.json"
    assert not (tmp_path / "out/model.safetensors").exists()
    loaded = core.load(tmp_path / "out")
    assert (loaded.backend, loaded.file_name) == ("toy", "toy/model_swift.safetensors")
    expected = core.load(model, backend="toy").encode(texts[:5])
    np.testing.assert_allclose(loaded.encode(texts[:5]), expected, atol=1e-6)


@pytest.mark.usefixtures("toy")
def test_a_target_with_another_file_of_that_name_is_left_alone(
    model: Path, texts: list[str], tmp_path: Path
) -> None:
    report = tune(model, texts, write=False)
    place = tmp_path / "out/toy/model_swift.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"somebody's")
    with pytest.raises(OptionError, match="would overwrite another file of that name"):
        report.write(tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [place]
    assert place.read_bytes() == b"somebody's"


@pytest.mark.usefixtures("toy")
def test_a_recommendation_is_written_when_it_is_taken(model: Path, texts: list[str]) -> None:
    report = tune(model, texts, write=False)
    assert not report.lock
    assert not (model / "core_tuned.json").exists()
    assert report.write() == report.lock == model / "core_tuned.json"
    assert core.load(model, backend="tuned").file_name == "toy/model_swift.safetensors"


def test_the_reference_itself_may_be_the_choice(
    model: Path, texts: list[str], tmp_path: Path
) -> None:
    with toy_backend():
        assert tune(model, texts).best.name == "toy float32"
        assert core.load(model, backend="tuned").file_name == "model.safetensors"
        tune(model, texts, target=tmp_path / "out")
        assert core.load(tmp_path / "out").file_name == "model.safetensors"


def test_ways_to_load_are_tried_and_followed(model: Path, texts: list[str]) -> None:
    with toy_backend(LOAD_CONFIGS={"hasty": {"haste": 0.1}}):
        report = tune(model, texts)
        assert report.best.name == "toy hasty"
        assert report.best.options == {"haste": 0.1}
        loaded: Any = core.load(model).runtime
        assert loaded.pace == pytest.approx(0.1 * PACE)


def test_what_does_not_fit_the_machine_is_not_tried(model: Path, texts: list[str]) -> None:
    needs = {"swift": ("cuda", "a_flag_that_no_processor_has"), "coarse": ("cpu",)}
    with toy_backend(["swift"], ["coarse"], NEEDS=needs):
        names = set(by_name(tune(model, texts, write=False)))
    assert names == {"toy float32", "toy quantize coarse"}


@pytest.mark.usefixtures("toy")
def test_files_that_are_there_already_are_compared_too(model: Path, texts: list[str]) -> None:
    made = core.load(model, backend="toy").optimize("swift")
    shutil.copy(made.path, made.path.with_name("model_own.safetensors"))
    found = by_name(tune(model, texts, write=False))
    own = found["toy toy/model_own.safetensors"]
    assert (own.file_name, own.status) == ("toy/model_own.safetensors", "measured")
    # The other is what would be made anew.
    assert "toy toy/model_swift.safetensors" not in found
    assert found["toy optimize swift"].status == "measured"


@pytest.mark.usefixtures("toy")
def test_a_file_that_is_there_is_not_replaced_by_another_of_its_name(
    model: Path, texts: list[str]
) -> None:
    with toy_backend(["slow"]):
        made = core.load(model, backend="toy").optimize("slow")
    with toy_backend(["swift"]):
        made.path.rename(made.path.with_name("model_swift.safetensors"))
        content = made.path.with_name("model_swift.safetensors").read_bytes()
        report = tune(model, texts)
        assert "toy optimize swift" not in by_name(report)
        assert by_name(report)["toy toy/model_swift.safetensors"].speed_ratio < 1
        assert made.path.with_name("model_swift.safetensors").read_bytes() == content


def test_configurations_that_take_texts_get_some_that_do_not_judge(
    model: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []

    @core.hookimpl
    def quantize(
        model: core.EmbeddingModel, target: Path, options: core.QuantizeOptions
    ) -> core.Artifact:
        from tests.tuning.toy_backend import _write

        given.append(options.calibration)
        return _write(model, target, options.config)

    monkeypatch.setattr("tests.tuning.toy_backend.quantize", quantize)
    with toy_backend([], ["coarse", "noise"], CALIBRATED_CONFIGS=("coarse",)):
        report = tune(model, texts, write=False)
    calibration = next(texts_ for texts_ in given if texts_ is not None)
    assert len(calibration) == report.calibration_texts == 30
    assert report.texts == 120
    assert None in given


@pytest.mark.usefixtures("slow_toy")
def test_the_soonest_for_one_text(model: Path, texts: list[str]) -> None:
    report = tune(model, texts, objective="latency")
    assert report.best.name == "toy optimize swift"
    assert "ms for one text" in report.reason
    assert report.best.recall_at_10 == 1


@pytest.mark.usefixtures("toy")
def test_the_smallest_in_memory(model: Path, texts: list[str]) -> None:
    report = tune(model, texts, objective="memory")
    assert report.best.recall_at_10 == 1
    assert "MB of resident memory" in report.reason


# Labelled data


def labelled(texts: list[str]) -> dict[str, Any]:
    choose = np.random.default_rng(1)
    corpus = {f"d{number}": text for number, text in enumerate(texts[:60])}
    queries = {f"q{number}": text for number, text in enumerate(texts[60:80])}
    qrels = {
        name: {f"d{int(i)}": int(choose.integers(1, 4)) for i in choose.integers(0, 60, 5)}
        for name in queries
    }
    pairs = [(texts[i], texts[i + 1], float(choose.integers(0, 6))) for i in range(0, 100, 2)]
    return {"pairs": pairs, "corpus": corpus, "queries": queries, "qrels": qrels}


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.usefixtures("slow_toy")
def test_quality_ratios_are_those_of_an_independent_computation(
    model: Path, texts: list[str]
) -> None:
    labels = labelled(texts)
    report = tune(model, texts, min_recall=0, max_quality_loss=100, **labels)
    noise = by_name(report)["toy quantize noise"]
    scores = {}
    for name, file in (("full", None), ("noise", "toy/model_noise.safetensors")):
        with core.load(model, backend="toy", file_name=file) as loaded:
            one, two = (unit(loaded.encode([p[i] for p in labels["pairs"]])) for i in (0, 1))
            gold = [pair[2] for pair in labels["pairs"]]
            pairs = scipy.stats.spearmanr((one * two).sum(axis=1), gold).statistic
            queries = unit(loaded.encode_query(list(labels["queries"].values())))
            documents = unit(loaded.encode_document(list(labels["corpus"].values())))
        found = []
        for row, judged in zip(queries @ documents.T, labels["qrels"].values(), strict=True):
            relevance = np.array([judged.get(name_, 0) for name_ in labels["corpus"]], float)
            discounts = 1 / np.log2(np.arange(2, 12))
            ideal = (np.sort(relevance)[::-1][:10] * discounts).sum()
            found.append((relevance[np.argsort(-row)[:10]] * discounts).sum() / ideal)
        scores[name] = {"pairs": pairs, "retrieval": float(np.mean(found))}
    assert noise.quality_scores == pytest.approx(scores["noise"], abs=1e-5)
    assert report.reference.quality_scores == pytest.approx(scores["full"], abs=1e-5)
    ratios = [scores["noise"][kind] / scores["full"][kind] for kind in scores["full"]]
    assert noise.quality == pytest.approx(min(ratios), abs=1e-5)


@pytest.mark.usefixtures("slow_toy")
def test_a_variant_that_loses_quality_is_not_chosen(model: Path, texts: list[str]) -> None:
    # What each text is most like by the model itself: noise cannot keep that.
    with core.load(model, backend="toy") as loaded:
        similar = loaded.similarity(loaded.encode(texts[:60]), loaded.encode(texts[:60]))
    pairs = [(texts[i], texts[i + 1], float(similar[i, i + 1])) for i in range(0, 60, 2)]
    report = tune(model, texts, min_recall=0, max_quality_loss=0.4, pairs=pairs)
    assert report.best.name in ("toy optimize swift", "toy quantize coarse")
    assert report.best.quality is not None
    assert report.best.quality > 0.996
    assert by_name(report)["toy quantize noise"].quality < 0.9
    assert "of the quality on labelled data" in report.reason


# Bad input


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "holds 0 texts"),
        (["one"], {}, "holds one text"),
        (["same"] * 500, {}, "holds 500 texts, 1 of them different and not blank"),
        (["", " "] * 50, {}, "100 texts, 0 of them different"),
        (5, {}, "texts is 5: give a sequence"),
        ("gone.txt", {}, "Cannot read 'gone.txt': No such file"),
        ("owner/dataset", {}, "give a sequence of texts, or a .txt or .jsonl file"),
        ([5] * 30, {}, "5"),
        (None, {"minutes": 0}, "minutes must be a positive number, of at most 1,000,000, not 0"),
        (None, {"minutes": float("inf")}, "of at most 1,000,000, not inf"),
        (None, {"minutes": True}, "minutes must be a positive number"),
        (None, {"objective": "speed"}, "objective must be 'throughput', 'latency', 'memory'"),
        (None, {"min_recall": 1.2}, "min_recall must be between 0 and 1, not 1.2"),
        (None, {"min_cosine": "high"}, "min_cosine must be between 0 and 1"),
        (None, {"max_quality_loss": 0.4}, "needs labelled data"),
        (None, {"max_quality_loss": -1, "pairs": [("a", "b", 1)]}, "pairs has 1|1 pairs|percent"),
        (None, {"backends": "toy"}, "backends must be a list of names"),
        (None, {"backends": []}, "backends must be a list of names"),
        (None, {"write": "yes"}, "write must be True or False"),
        (None, {"objektive": "latency"}, "Did you mean 'objective'"),
        (None, {"field": "text"}, "field='text' belongs to a .jsonl file"),
        (None, {"target": 5}, "target must be a path"),
    ],
)
@pytest.mark.usefixtures("toy")
def test_bad_input_is_refused_before_any_work(
    model: Path, texts: list[str], given: Any, options: dict[str, Any], message: str
) -> None:
    if given is None:
        given = texts
    told: list[TuneProgress] = []
    pattern = message if "|" in message else re.escape(message)
    with pytest.raises(OptionError, match=pattern):
        tune(model, given, on_progress=told.append, **options)
    assert told == []


@pytest.mark.usefixtures("toy")
def test_a_backend_that_is_not_there(model: Path, texts: list[str]) -> None:
    with pytest.raises(core.BackendNotFound, match="tensorflow"):
        tune(model, texts, backends=["tensorflow"])


@pytest.mark.usefixtures("toy")
def test_a_backend_that_runs_names_is_refused_before_any_work(
    model: Path, texts: list[str]
) -> None:
    told: list[TuneProgress] = []
    with (
        toy_backend(name="named", SOURCE="name", FILE_NAMES=(), FILES={}),
        pytest.raises(OptionError, match="The named backend runs models by their names"),
    ):
        tune(model, texts, backends=["toy", "named"], on_progress=told.append)
    assert told == []


@pytest.mark.usefixtures("toy")
def test_a_target_in_the_way_is_found_before_any_work(
    model: Path, texts: list[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OptionError, match="is a file, not a directory"):
        tune(model, texts, target=tmp_path / "file")


def test_a_model_that_no_backend_runs(model: Path, texts: list[str]) -> None:
    (model / "model.safetensors").unlink()
    with toy_backend(), pytest.raises(CoreError, match="has no file the toy backend"):
        tune(model, texts)


# Reports


@pytest.mark.usefixtures("toy")
def test_reports_need_nothing_from_elsewhere(model: Path, texts: list[str], tmp_path: Path) -> None:
    report = tune(model, texts)
    page = report.save_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert report.best.name in page
    assert "core.load(" in page
    assert page.count("<tr") == len(report.variants) + 1
    assert "<script" not in page
    addresses = re.findall(r"https?://[^\s\"'<]+", page)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not re.search(r"\b(src|href|url)\s*[=(]", page)
    svg = report.save_plot(tmp_path / "plot.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert svg.count("<circle") == sum(v.recall_at_10 is not None for v in report.variants)
    png = report.save_plot(tmp_path / "plot.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    front = [variant.name for variant in report.pareto_front()]
    assert report.best.name in front
    assert "toy optimize slow" not in front


@pytest.mark.usefixtures("toy")
def test_reports_go_to_files_of_their_kind(
    model: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = tune(model, texts, write=False)
    with pytest.raises(OptionError, match=re.escape(".svg or a .png file, not to")):
        report.save_plot(tmp_path / "plot.gif")
    with pytest.raises(OptionError, match=re.escape("written to a .html file")):
        report.save_html(tmp_path / "report.pdf")
    with pytest.raises(OptionError, match="does not exist"):
        report.save_html(tmp_path / "gone/report.html")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CoreError, match=re.escape("pip install 'core[plot]'")):
        report.save_plot(tmp_path / "plot.png")


# The command


@pytest.fixture
def text_file(texts: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


@pytest.mark.usefixtures("toy")
def test_the_command_prints_the_choice_and_writes_the_reports(
    model: Path, text_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "tune",
        str(model),
        "--texts",
        str(text_file),
        "--backend",
        "toy",
        "--minutes",
        "0.2",
    ]
    assert main([*command, "--report", str(tmp_path / "r.html")]) == 0
    printed = capsys.readouterr().out
    assert "toy optimize swift" in printed
    assert "follows it" in printed
    assert (tmp_path / "r.html").is_file()
    assert main([*command, "--json", "--dry-run"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["best"]["name"] == "toy optimize swift"
    assert document["lock"] is None
    assert {"backend", "file_name", "options", "texts_per_second", "p50_ms", "p99_ms",
            "mean_cosine", "min_cosine", "recall_at_10", "mixed_recall_at_10", "spearman",
            "size_bytes", "quality"} <= document["variants"][0].keys()  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--texts", "gone.txt"], "Cannot read 'gone.txt'"),
        (["--texts", "{texts}", "--max-quality-loss", "much"], "'much' is not a number of percent"),
        (["--texts", "{texts}", "--max-quality-loss", "0.4%"], "give --pairs, or --corpus, "),
        (["--texts", "{texts}", "--for", "fun"], "invalid choice: 'fun'"),
        (["--texts", "{texts}", "--plot", "plot.bmp"], ".svg or a .png file"),
        (["--texts", "{texts}", "--corpus", "c.jsonl"], "without queries and qrels"),
        ([], "required: --texts"),
    ],
)
def test_bad_usage_of_the_command(
    model: Path,
    text_file: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    words = [word.format(texts=text_file) for word in arguments]
    assert main(["tune", str(model), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_ctrl_c_says_that_what_was_measured_is_kept(
    model: Path,
    text_file: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(core, "tune", interrupted, raising=False)
    assert main(["tune", str(model), "--texts", str(text_file)]) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


@pytest.mark.usefixtures("toy")
def test_a_model_of_int8_alone_is_refused_before_any_work(model: Path, texts: list[str]) -> None:
    coarse = core.load(model, backend="toy").quantize("coarse")
    told: list[TuneProgress] = []
    (model / "model.safetensors").unlink()
    with pytest.raises(OptionError) as caught:
        tune(model, texts, on_progress=told.append)
    for part in (str(model), coarse.file_name, "measured against float32", "this file was made"):
        assert part in str(caught.value)
    assert told == []
    assert not (model / "core_tuned.json").exists()


def test_an_int8_file_is_no_float32_beside_one_that_is(model: Path, texts: list[str]) -> None:
    with toy_backend([], ["coarse"]):
        coarse = core.load(model, backend="toy").quantize("coarse")
    here = {"absent.safetensors": (), "toy/*.safetensors": ()}
    with (
        toy_backend(FILE_NAMES=("absent.safetensors",), FILES=here),
        toy_backend(name="whole"),
    ):
        report = tune(model, texts, backends=["toy", "whole"], write=False)
    assert report.reference.name == "whole float32"
    assert f"toy {coarse.file_name}" in by_name(report)
    assert "toy float32" not in by_name(report)
