"""The document beside a model that says how to load it: followed, refused, copied, attacked."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.artifacts.tuned import LOCK_NAME, parse_choice
from core.cli import main
from core.errors import (
    ArtifactNotFound,
    BackendLoadError,
    BackendNotFound,
    CoreError,
    ModelFormatError,
    OptionError,
)
from core.files.weights import read_weights, write_safetensors
from core.machine.processor import processor_flags
from core.operations.tuned import describe_choice, write_choice
from core.plugin.registry import registry
from core.sentence_transformers import SentenceTransformer
from tests.checkpoint import numpy_backend
from tests.checkpoint.dialects import build_dialect
from tests.conftest import Exports, copy_model

HALF = "model_fp16.safetensors"
FIGURES = {"texts_per_second": 123.4, "p50_ms": np.float32(1.5), "recall_at_10": 0.995}
TEXT = "one text about vectors"


def tune(folder: Path, backend: str, file_name: str | None, **more: Any) -> Path:
    given = {"device": "cpu", "objective": "throughput", "measured": FIGURES, **more}
    choice = describe_choice(folder, backend=backend, file_name=file_name, **given)
    return write_choice(choice, folder)


@pytest.fixture(scope="module")
def tuned_once(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned") / "model"
    copy_model(tiny_model("bert-mean"), folder)
    with core.load(folder, backend="torch", device="cpu") as model:
        core.optimize(model, "fp16")
    tune(folder, "torch", HALF)
    return folder


@pytest.fixture
def tuned(tuned_once: Path, tmp_path: Path) -> Path:
    """A model whose weights are float32, tuned to be loaded from a file in float16."""
    shutil.copytree(tuned_once, tmp_path / "model")
    return tmp_path / "model"


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / LOCK_NAME).read_bytes())
    return content


def rewrite(folder: Path, **changes: Any) -> None:
    (folder / LOCK_NAME).write_text(json.dumps({**read(folder), **changes}))


def loaded(folder: Path | str, **arguments: Any) -> tuple[str, str | None, str]:
    """What a model was loaded with: its backend, file and precision."""
    with core.load(folder, **arguments) as model:
        return model.backend, model.file_name, model.dtype


TUNED = ("torch", HALF, "float16")
USUAL = ("torch", "model.safetensors", "float32")


def test_the_document_holds_what_a_loader_needs(tuned: Path) -> None:
    text = (tuned / LOCK_NAME).read_text(encoding="utf-8")
    assert text.endswith("}\n")
    content = json.loads(text)
    assert list(content) == [
        "format", "backend", "file_name", "device", "options", "objective", "measured",
        "tuned_at", "processor", "versions", "fingerprint", "files",
    ]  # fmt: skip
    assert content["measured"] == {**FIGURES, "p50_ms": 1.5}
    assert set(content["processor"]["flags"]) <= processor_flags()
    assert {"core", "core-torch-backend", "torch", "transformers"} <= set(content["versions"])
    recorded = {HALF, "model.safetensors", "config.json", "modules.json", "1_Pooling/config.json"}
    assert recorded <= set(content["files"])
    assert not {"README.md", LOCK_NAME} & set(content["files"])


def test_load_follows_it(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert loaded(tuned) == TUNED
    assert loaded(str(tuned), device="cpu", export=False) == TUNED
    assert loaded(tuned, backend="tuned") == TUNED
    monkeypatch.chdir(tuned.parent)
    assert loaded("model") == TUNED
    monkeypatch.setenv("CORE_BACKEND", "tuned")
    assert loaded(tuned) == TUNED


def test_who_names_a_backend_a_file_or_a_device_gets_that(
    tuned: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert loaded(tuned, backend="torch") == USUAL
    assert loaded(tuned, file_name="model.safetensors") == USUAL
    assert loaded(tuned, model_kwargs={"file_name": "model.safetensors"}) == USUAL
    assert SentenceTransformer(str(tuned)).embedding_model.dtype == "float32"
    own = {"torch_dtype": "auto"}
    follows = SentenceTransformer(str(tuned), backend="tuned", model_kwargs=own)
    assert follows.embedding_model.dtype == "float16"
    assert loaded(tuned, device="CPU:0") == TUNED
    for other in ("mps", "cpu:1", "cpu.1"):
        rewrite(tuned, device=other)
        assert loaded(tuned, device="cpu") == USUAL
    monkeypatch.setenv("CORE_BACKEND", "torch")
    assert loaded(tuned) == USUAL
    # Of the choice nothing is said; of float16 on a CPU it may be.
    assert [said for said in caplog.messages if "does not multiply" not in said] == []


def test_the_callers_options_count_more(tuned: Path) -> None:
    with core.load(tuned, model_kwargs={"attn_implementation": "eager"}) as model:
        assert model.file_name == HALF
        assert model.truncate_dim is None
    with core.load(tuned, truncate_dim=8, prompts={"query": "q: "}) as model:
        assert model.encode(TEXT).shape == (8,)
        assert model.prompts["query"] == "q: "


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "file"),
    [("onnx", "onnx/model.onnx"), ("openvino", "openvino/openvino_model.xml")],
)
def test_other_backends(exports: Exports, tmp_path: Path, backend: str, file: str) -> None:
    folder = copy_model(exports("bert-mean", "onnx", "openvino"), tmp_path / "model")
    (folder / LOCK_NAME).unlink(missing_ok=True)
    with core.load(folder, backend=backend, device="cpu") as model:
        tune(folder, model.backend, model.file_name, device=model.device)
    assert loaded(folder)[:2] == (backend, file)
    companion = folder / file.replace(".xml", ".bin")
    content = bytearray(companion.read_bytes())
    content[-100] ^= 1
    companion.unlink()
    companion.write_bytes(content)
    assert loaded(folder)[0] == "torch"
    if backend == "openvino":
        companion.unlink()
        with pytest.raises(ArtifactNotFound, match=r"openvino_model\.bin.*core tune"):
            core.load(folder, backend="tuned")


@pytest.mark.slow
def test_options_are_those_of_a_configuration(exports: Exports, tmp_path: Path) -> None:
    folder = copy_model(exports("bert-mean", "openvino"), tmp_path / "model")
    file, options = (
        "openvino/openvino_model.xml",
        {"ov_config": {"INFERENCE_PRECISION_HINT": "bf16"}},
    )
    tune(folder, "openvino", file, options=options)
    with core.load(folder) as model:
        assert model.backend == "openvino"
        assert model.reload.options.model_kwargs == options
    with core.load(folder, model_kwargs={"ov_config": {}}) as model:
        assert model.reload.options.model_kwargs == {"ov_config": {}}
    with pytest.raises(OptionError, match=r"none of the configurations.*bf16"):
        tune(folder, "openvino", file, options={"ov_config": {"CACHE_DIR": "/tmp"}})
    rewrite(folder, options={"ov_config": {"CACHE_DIR": "/tmp"}})
    assert loaded(folder)[0] == "torch"
    with pytest.raises(ModelFormatError, match=r"none of the configurations.*bf16"):
        core.load(folder, backend="tuned")


@pytest.mark.slow
def test_the_file_is_the_one_at_that_place(exports: Exports, tmp_path: Path) -> None:
    """A bare name is looked for in a backend's folder first when a user types it."""
    folder = copy_model(exports("bert-mean", "onnx"), tmp_path / "model")
    shutil.copyfile(folder / "onnx/model.onnx", folder / "model.onnx")
    tune(folder, "onnx", "model.onnx")
    assert loaded(folder)[1] == "model.onnx"


@pytest.fixture
def static(tmp_path: Path) -> Iterator[Path]:
    build_dialect("static-table", tmp_path / "static")
    numpy_backend.register()
    yield tmp_path / "static"
    numpy_backend.unregister()


def test_a_model_without_a_file_of_the_backend(static: Path) -> None:
    """Static embeddings on a backend that was registered in code."""
    tune(static, "numpy", None)
    assert read(static)["file_name"] is None
    assert list(read(static)["versions"]) == ["core"]
    with core.load(static) as model:
        assert model.backend == "numpy"
        expected = model.encode(TEXT)
    retrain(next(static.rglob("model.safetensors")))
    with core.load(static) as model:
        assert model.backend == "torch"
        assert np.abs(model.encode(TEXT) - expected).max() > 0
    numpy_backend.unregister()
    with pytest.raises(BackendNotFound, match=r"no backend 'numpy'.*core tune"):
        core.load(static, backend="tuned")


def retrain(weights: Path) -> None:
    """Other weights in the same place, with the same size and time."""
    before = weights.stat()
    tensors = {name: value + np.float32(0.01) for name, value in read_weights(weights).items()}
    weights.unlink()
    write_safetensors(weights, tensors)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))


Change = Callable[[Path], Any]


def edit(name: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content + b" ")

    return change


def versions(folder: Path, **changed: str) -> None:
    rewrite(folder, versions={**read(folder)["versions"], **changed})


UNFIT: dict[str, tuple[Change, type[CoreError], str]] = {
    "retrained": (
        lambda f: retrain(f / "model.safetensors"),
        ModelFormatError,
        "another state of the model: model.safetensors has changed",
    ),
    "another file": (
        lambda f: retrain(f / HALF),
        ModelFormatError,
        f"another state of the model: {HALF} has changed",
    ),
    "tokenizer": (edit("tokenizer.json"), ModelFormatError, "tokenizer.json has changed"),
    "pooling": (edit("1_Pooling/config.json"), ModelFormatError, "1_Pooling/config.json has"),
    "new configuration": (
        lambda f: (f / "added_tokens.json").write_text("{}"),
        ModelFormatError,
        "does not know added_tokens.json, which is new",
    ),
    "configuration gone": (
        lambda f: (f / "sentence_bert_config.json").unlink(),
        ModelFormatError,
        "made with sentence_bert_config.json, which is gone",
    ),
    "file gone": (
        lambda f: (f / HALF).unlink(),
        ArtifactNotFound,
        f"names '{HALF}', and there is no such file",
    ),
    "another minor version": (
        lambda f: versions(f, torch="1.0.1"),
        OptionError,
        r"torch is \d+\.\d+.*, and was 1\.0\.1",
    ),
    "another core": (lambda f: versions(f, core="0.0.9"), OptionError, "core is .*was 0.0.9"),
    "requirement gone": (
        lambda f: versions(f, flash="2.0"),
        OptionError,
        "flash 2.0 is not installed",
    ),
    "backend not recorded": (
        lambda f: rewrite(f, versions={"core": core.__version__}),
        OptionError,
        "no version of core-torch-backend is recorded",
    ),
    "another machine": (
        lambda f: rewrite(f, processor={"machine": "s390x", "flags": []}),
        OptionError,
        "for s390x processors, and this one is",
    ),
    "a processor with more": (
        lambda f: rewrite(
            f, processor={**read(f)["processor"], "flags": ["amx_complex", "avx2048"]}
        ),
        OptionError,
        "a processor with amx_complex, avx2048, which this one lacks",
    ),
    "backend not installed": (
        lambda f: rewrite(f, backend="nothere"),
        BackendNotFound,
        "no backend 'nothere'",
    ),
}


@pytest.mark.parametrize("case", UNFIT)
def test_where_it_does_not_hold_that_is_said_once(
    tuned: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    change, error, message = UNFIT[case]
    change(tuned)
    assert loaded(tuned) == USUAL
    assert loaded(tuned) == USUAL
    (warning,) = caplog.records
    assert (warning.name, warning.levelno) == ("core", logging.WARNING)
    for text in (f"core tune {tuned} --texts FILE", f"as if it had no {LOCK_NAME}"):
        assert text in warning.message
    assert caplog.messages == [pytest.approx(warning.message)]
    with pytest.raises(error, match=message) as caught:
        core.load(tuned, backend="tuned")
    assert f"core tune {tuned}" in str(caught.value)
    assert str(caught.value).startswith(warning.message.partition(" So ")[0])


def test_a_backend_that_is_switched_off(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("CORE_DISABLE_PLUGINS", "torch")
        registry.refresh()
        with pytest.raises(BackendLoadError, match=r"switched off.*core tune"):
            core.load(tuned, backend="tuned")
    registry.refresh()


@pytest.fixture
def older_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One that has few of the instructions of any that tests run on."""
    is_file, read_text, cpuinfo = Path.is_file, Path.read_text, Path("/proc/cpuinfo")
    text = "processor\t: 0\nflags\t\t: fpu sse2\n"
    monkeypatch.setattr(Path, "is_file", lambda path: path == cpuinfo or is_file(path))
    monkeypatch.setattr(
        Path, "read_text", lambda path, **how: text if path == cpuinfo else read_text(path, **how)
    )
    processor_flags.cache_clear()
    yield
    processor_flags.cache_clear()


def test_a_processor_that_lacks_instructions(tuned: Path, older_processor: None) -> None:
    with pytest.raises(OptionError, match=r"a processor with .*, which this one lacks"):
        core.load(tuned, backend="tuned")
    rewrite(tuned, processor={**read(tuned)["processor"], "flags": []})
    assert loaded(tuned) == TUNED  # a newer one runs what an older one runs


def test_corrections_and_missing_tools_do_not_matter(tuned: Path) -> None:
    recorded = read(tuned)["versions"]
    corrected = {
        name: ".".join([*version.split(".")[:2], "999"]) for name, version in recorded.items()
    }
    rewrite(tuned, versions=corrected)
    assert loaded(tuned) == TUNED


@pytest.mark.slow
def test_what_only_made_the_file_may_be_gone(exports: Exports, tmp_path: Path) -> None:
    folder = copy_model(exports("bert-mean", "onnx"), tmp_path / "model")
    tune(folder, "onnx", "onnx/model.onnx")
    versions(folder, **{"optimum-onnx": "0.1.0"})  # a requirement of an extra
    assert loaded(folder)[0] == "onnx"


def test_a_copy_is_followed_and_source_weights_may_be_absent(
    tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in tuned.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    place = tuned.rename(tuned.with_name("renamed"))
    (place / "README.md").write_text("# What it is for\n")
    (place / "notes.json").write_text("[]")
    assert loaded(place) == TUNED
    (place / "model.safetensors").unlink()
    assert loaded(place) == TUNED


def test_large_files_are_told_apart_by_samples(tmp_path: Path, tuned: Path) -> None:
    """Of the same length, and different in a hundredth of their bytes."""
    weights = np.zeros(3_000_000, np.float32)
    write_safetensors(tuned / "model.safetensors", {"w": weights})
    tune(tuned, "torch", HALF)
    assert loaded(tuned) == TUNED
    weights[1_000_000:1_030_000] = 1
    write_safetensors(tuned / "model.safetensors", {"w": weights})
    with pytest.raises(ModelFormatError, match=r"model\.safetensors has changed"):
        core.load(tuned, backend="tuned")


def test_a_model_stays_what_was_loaded(tuned: Path) -> None:
    with core.load(tuned) as model:
        expected = model.encode(TEXT)
        pickled = pickle.dumps(model)
        for content in ("{}", json.dumps({**read(tuned), "file_name": "model.safetensors"})):
            (tuned / LOCK_NAME).write_text(content)
            with pickle.loads(pickled) as again:
                assert (again.file_name, again.dtype) == (HALF, "float16")
                np.testing.assert_array_equal(again.encode(TEXT), expected)
        (tuned / LOCK_NAME).unlink()
        with pickle.loads(pickled) as again, pickle.loads(pickle.dumps(model)) as other:
            assert again.file_name == other.file_name == HALF
        # What is not loaded may change as well: another export of the model, or its weights.
        retrain(tuned / "model.safetensors")
        with pickle.loads(pickled) as again:
            np.testing.assert_array_equal(again.encode(TEXT), expected)


@pytest.mark.slow
def test_processes_load_what_the_model_is(exports: Exports, tmp_path: Path) -> None:
    folder = copy_model(exports("bert-mean", "onnx"), tmp_path / "model")
    with core.load(folder, backend="onnx") as model:
        usual = model.encode([TEXT])
        smaller = core.quantize(model, "avx2").file_name
    tune(folder, "onnx", smaller)
    with core.load(folder) as model:
        assert model.file_name == smaller
        expected = model.encode([TEXT])
        assert np.abs(expected - usual).max() > 1e-5
        (folder / LOCK_NAME).unlink()
        with core.ProcessPool(model, 1) as pool:
            np.testing.assert_allclose(pool.encode([TEXT]), expected, atol=1e-6)


# Copies that core makes


def test_a_saved_copy_is_tuned_as_well(tuned: Path) -> None:
    copy = tuned.with_name("copy")
    for backend in (None, "torch"):
        with core.load(tuned, backend=backend) as model:
            model.save(copy)
        assert loaded(copy) == TUNED
        shutil.rmtree(copy)


def test_saving_in_place_with_other_settings(tuned: Path) -> None:
    with core.load(tuned) as model:
        model.prompts["query"] = "query: "
        model.max_seq_length = 17
        model.save(tuned)
    with core.load(tuned, backend="tuned") as model:
        assert (model.file_name, model.max_seq_length) == (HALF, 17)
        model.encode(TEXT)


def test_a_copy_of_a_model_that_was_tuned_after_it_was_loaded(tuned: Path) -> None:
    lock = read(tuned)
    with core.load(tuned) as model:
        rewrite(tuned, objective="latency")
        model.save(tuned.with_name("copy"))
    copied = read(tuned.with_name("copy"))
    assert (lock["objective"], copied["objective"]) == ("throughput", "latency")


@pytest.mark.parametrize("damage", ["stale", "broken", "without its file"])
def test_a_copy_that_it_would_not_hold_for_has_none(tuned: Path, damage: str) -> None:
    copy = tuned.with_name("copy")
    with core.load(tuned, backend="torch") as model:
        if damage == "stale":
            rewrite(tuned, files={**read(tuned)["files"], HALF: "0" * 32})
        elif damage == "broken":
            (tuned / LOCK_NAME).write_text("[")
        options = core.SaveOptions(keep_source=damage != "without its file")
        model.hooks.save(model, copy, options)
    assert not (copy / LOCK_NAME).exists()
    assert loaded(copy) == USUAL


def test_another_model_saved_over_a_tuned_one(
    tuned: Path, tiny_model: Callable[[str], Path]
) -> None:
    with core.load(tiny_model("bert-cls"), backend="torch") as model:
        model.save(tuned)
    assert not (tuned / LOCK_NAME).exists()
    assert loaded(tuned) == USUAL


def test_an_untuned_copy_saved_over_a_tuned_one(
    tuned: Path, tiny_model: Callable[[str], Path]
) -> None:
    """The same weights: it holds as long as nothing else that decides is another."""
    untuned = copy_model(tiny_model("bert-mean"), tuned.with_name("untuned"))
    with core.load(untuned, backend="torch") as model:
        model.save(tuned)
    assert loaded(tuned) == TUNED
    pooling = json.loads((untuned / "1_Pooling/config.json").read_bytes())
    pooling |= {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}
    (untuned / "1_Pooling/config.json").write_text(json.dumps(pooling))
    with core.load(untuned, backend="torch") as model:
        model.save(tuned)
    assert (tuned / HALF).is_file()
    assert not (tuned / LOCK_NAME).exists()


def test_an_artifact_written_elsewhere_does_not_take_it_along(tuned: Path) -> None:
    with core.load(tuned) as model:
        core.optimize(model, "bf16", tuned.with_name("target"))
    assert (tuned.with_name("target") / "config.json").is_file()
    assert not (tuned.with_name("target") / LOCK_NAME).exists()
    with core.load(tuned, backend="torch") as model:  # beside it, it changes nothing
        core.optimize(model, "bf16")
    assert loaded(tuned) == TUNED


# backend="tuned"


def test_insisting_where_nothing_was_tuned(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ArtifactNotFound, match=rf"has no {LOCK_NAME}.*core tune"):
        core.load(tiny_model("bert-mean"), backend="tuned")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file_name": "model.safetensors"}, "file_name='model.safetensors' chooses a file"),
        ({"export": True}, "export=True chooses a file"),
        ({"model_kwargs": {"subfolder": "onnx"}}, "subfolder='onnx' chooses a file"),
        ({"device": "cuda"}, "device='cuda': .* tuned for another device"),
        ({"model_kwargs": {"provider": "x"}}, "torch backend does not take 'provider'"),
    ],
)
def test_insisting_and_asking_for_something_else(
    tuned: Path, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        core.load(tuned, backend="tuned", **arguments)


def test_tuned_is_the_name_of_no_backend(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OptionError, match="Choose another name"):
        core.register_backend("Tuned", object())
    assert main(["new-backend", "tuned"]) == 2
    assert "Choose another name" in capsys.readouterr().err
    for call in (core.hooks, lambda name: core.export(tuned, backend=name)):
        with pytest.raises(BackendNotFound, match="'tuned' is no backend"):
            call("tuned")


# What may be described


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"file_name": "onnx/model.onnx"}, OptionError, "the torch backend does not load"),
        ({"file_name": "../model.safetensors"}, CoreError, "outside the model's directory"),
        ({"file_name": "model_x.safetensors"}, ArtifactNotFound, "there is no such file"),
        ({"file_name": None}, OptionError, "names no file"),
        ({"device": "abacus"}, OptionError, "names the device 'abacus'"),
        ({"device": "cpu:x"}, OptionError, "names the device 'cpu:x'"),
        ({"options": {"dtype": "float16"}}, OptionError, "none of the configurations"),
        ({"measured": {"p50_ms": float("nan")}}, OptionError, "figure p50_ms = nan"),
        ({"measured": {"p50_ms": {"a": 1}}}, OptionError, "figure p50_ms"),
        ({"objective": ""}, OptionError, "objective must be a string"),
        ({"backend": "nothere"}, BackendNotFound, "no backend 'nothere'"),
    ],
)
def test_a_choice_that_no_loader_could_follow(
    tuned: Path, arguments: dict[str, Any], error: type[CoreError], message: str
) -> None:
    given = {"backend": "torch", "file_name": HALF, **arguments}
    before = (tuned / LOCK_NAME).read_bytes()
    with pytest.raises(error, match=message):
        tune(tuned, **given)
    assert (tuned / LOCK_NAME).read_bytes() == before


def test_it_is_written_whole_or_not_at_all(tuned: Path, tmp_path: Path) -> None:
    choice = describe_choice(
        tuned, backend="torch", file_name=HALF, device="cpu", objective="memory", measured={}
    )
    assert write_choice(choice, str(tuned)) == tuned / LOCK_NAME
    assert read(tuned) == choice.as_dict()
    with pytest.raises(OptionError, match="There is no directory"):
        write_choice(choice, tmp_path / "nowhere")
    before = sorted(path.name for path in tuned.iterdir())
    (tuned / LOCK_NAME).unlink()
    (tuned / LOCK_NAME).mkdir()
    with pytest.raises(CoreError, match="Cannot write"):
        write_choice(choice, tuned)
    assert sorted(path.name for path in tuned.iterdir()) == before


# core info and the other commands


def test_info_shows_it(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tuned)]) == 0
    shown = capsys.readouterr().out
    assert f"torch {HALF} on cpu" in shown
    assert "measured: 123.4 texts a second, median 1.5 ms a text, recall@10 0.9950" in shown
    assert "core.load without a backend follows it" in shown
    rewrite(tuned, processor={"machine": "s390x", "flags": []})
    assert main(["info", str(tuned)]) == 0
    assert "Not followed here. " in (shown := capsys.readouterr().out)
    assert "it is for s390x processors" in shown
    assert main(["info", str(tuned), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tuned"]
    assert (found["fits"], found["backend"], found["file_name"]) == (False, "torch", HALF)
    (tuned / LOCK_NAME).write_text("[")
    assert main(["info", str(tuned), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["tuned"]
    assert (found["fits"], found["backend"]) == (False, None)
    assert "not readable JSON" in found["why"]
    (tuned / LOCK_NAME).unlink()
    assert main(["info", str(tuned), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tuned"] is None


def test_commands_that_load_follow_it(tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with core.load(tuned) as model:
        expected = model.encode(TEXT)
    for arguments in ((), ("--backend", "tuned")):
        assert main(["encode", str(tuned), TEXT, *arguments]) == 0
        np.testing.assert_allclose(
            json.loads(capsys.readouterr().out)["embedding"], expected, atol=1e-6
        )
    place = str(tuned.with_name("written"))
    command = ["optimize", str(tuned), "-b", "tuned", "--config", "bf16", "-t", place, "--json"]
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "torch"
    (tuned / LOCK_NAME).unlink()
    assert main(["encode", str(tuned), TEXT, "--backend", "tuned"]) == 1
    assert f"has no {LOCK_NAME}" in capsys.readouterr().err


# Hostile documents


def deep(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


HOSTILE: dict[str, Change] = {
    "nothing": lambda f: (f / LOCK_NAME).write_bytes(b""),
    "not UTF-8": lambda f: (f / LOCK_NAME).write_bytes(b'{"format": "\xff\xfe"}'),
    "too deep for the parser": lambda f: (f / LOCK_NAME).write_text(deep(100_000)),
    "deep": lambda f: rewrite(f, options=json.loads(deep(400))),
    "huge": lambda f: (f / LOCK_NAME).write_bytes(b" " * 1_000_001),
    "a list": lambda f: (f / LOCK_NAME).write_text("[]"),
    "a pointer": lambda f: (f / LOCK_NAME).write_text("version https://git-lfs.github.com/spec/v1"),
    "a link out": lambda f: link_out(f),
    "a link to itself": lambda f: replaced(f).symlink_to(f / LOCK_NAME),
    "a pipe": lambda f: os.mkfifo(replaced(f)),
    "a directory": lambda f: replaced(f).mkdir(),
    "another format": lambda f: rewrite(f, format=2),
    "True for 1": lambda f: rewrite(f, format=True),
    "an unknown key": lambda f: rewrite(f, comment="x"),
    "code": lambda f: rewrite(f, trust_remote_code=True),
    "code in its options": lambda f: rewrite(f, options={"trust_remote_code": True}),
    "a file outside": lambda f: named(f, f"../outside/{HALF}"),
    "an absolute file": lambda f: named(f, str(f / HALF)),
    "a file by a link": lambda f: linked(f, "model_l.safetensors"),
    "no backend's file": lambda f: named(f, "config.json"),
    "no file": lambda f: rewrite(f, file_name=None),
    "options of its own": lambda f: rewrite(f, options={"dtype": "bfloat16"}),
    "a device of its own": lambda f: rewrite(f, device="abacus"),
    "a device that is not here": lambda f: rewrite(f, device="mps"),
    "a strange device": lambda f: rewrite(f, device="cpu:../x"),
    "a path for a backend": lambda f: rewrite(f, backend="../backend"),
    "itself for a backend": lambda f: rewrite(f, backend="tuned"),
    "NaN": lambda f: rewrite(f, measured={"p50_ms": float("nan")}),
    "an escape": lambda f: rewrite(f, measured={"note": "\x1b[2J"}),
    "many files": lambda f: rewrite(f, files={f"{n}.json": "0" * 32 for n in range(9_000)}),
    "files outside": lambda f: recorded(f, {"../../etc/passwd": "0" * 32}),
    "a digest of its own": lambda f: recorded(f, {"modules.json": "0" * 32}),
}  # fmt: skip


def replaced(folder: Path) -> Path:
    (folder / LOCK_NAME).unlink()
    return folder / LOCK_NAME


def linked(folder: Path, name: str) -> None:
    (folder / name).symlink_to(folder.parent / "outside" / HALF)
    named(folder, name)


def link_out(folder: Path) -> None:
    shutil.move(folder / LOCK_NAME, folder.parent / "lock")
    (folder / LOCK_NAME).symlink_to(folder.parent / "lock")


def recorded(folder: Path, files: dict[str, str]) -> None:
    """Other digests, and the fingerprint that belongs to them."""
    choice = parse_choice(read(folder), "it")
    changed = dataclasses.replace(choice, files={**choice.files, **files})
    (folder / LOCK_NAME).write_text(json.dumps(changed.as_dict()))


def named(folder: Path, name: str) -> None:
    """Another file, recorded as if it were the one."""
    content = read(folder)
    recorded(folder, {name: content["files"][HALF]})
    rewrite(folder, file_name=name)


@pytest.fixture
def outside(tuned: Path) -> None:
    (tuned.parent / "outside").mkdir()
    shutil.copyfile(tuned / HALF, tuned.parent / "outside" / HALF)


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_document_changes_nothing(tuned: Path, outside: None, case: str) -> None:
    HOSTILE[case](tuned)
    assert loaded(tuned) == USUAL
    with pytest.raises(CoreError) as caught:
        core.load(tuned, backend="tuned")
    assert len(str(caught.value)) < 1_000
    assert str(caught.value).isprintable()


def mutants(content: dict[str, Any], number: int) -> Iterator[bytes]:
    """The document with something changed: bytes, or values at any depth."""
    chance = random.Random(20_261_127)
    values: list[Any] = [
        None, True, False, 0, 1, 2, -1, 1.5, 10**40, "", "torch", "onnx", "openvino", "tuned",
        "cpu", "cuda", "mps", "auto", "..", "../outside/" + HALF, "/etc/passwd", HALF, "\0",
        "model.safetensors", "config.json", "./" + HALF, "\ud800", "x" * 5_000, [], {}, [[]],
        {"trust_remote_code": True}, {"dtype": "float16"}, {"file_name": HALF},
    ]  # fmt: skip
    for turn in range(number):
        text = json.dumps(content).encode()
        if turn % 4 == 0:
            changed = bytearray(text)
            for _ in range(chance.randint(1, 4)):
                place = chance.randrange(len(changed))
                action = chance.randrange(3)
                if action == 0:
                    changed[place] = chance.randrange(256)
                elif action == 1:
                    del changed[place : place + chance.randint(1, 20)]
                else:
                    changed[place:place] = changed[: chance.randint(0, 40)]
            yield bytes(changed)
            continue
        document = copy.deepcopy(content)
        for _ in range(chance.randint(1, 2)):
            inner: dict[str, Any] = document
            nested = [value for value in document.values() if isinstance(value, dict)]
            if chance.random() < 0.4 and nested:
                inner = chance.choice(nested)
            key = chance.choice(list(inner)) if inner else None
            action = chance.randrange(4)
            if action == 0 and key is not None:
                del inner[key]
            elif action == 1:
                inner[str(chance.choice(values))[:50]] = chance.choice(values)
            elif key is not None:
                inner[key] = chance.choice(values)
        yield json.dumps(document).encode()


@pytest.mark.parametrize("number", [40, pytest.param(150, marks=pytest.mark.slow)])
def test_whatever_it_says_a_model_is_loaded_as_tuned_or_as_usual(
    tuned: Path, outside: None, number: int
) -> None:
    followed = 0
    for mutant in mutants(read(tuned), number):
        (tuned / LOCK_NAME).write_bytes(mutant)
        found = loaded(tuned)
        assert found in (TUNED, USUAL), mutant
        followed += found == TUNED
    assert followed < number
    if number > 100:
        assert followed > 0  # figures may be anything


def test_without_it_nothing_is_asked_of_files_and_distributions(
    tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tuned / LOCK_NAME).unlink()

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("work for a document that is not there")

    monkeypatch.setattr("core.operations.tuned_files.fingerprint_of", refuse)
    monkeypatch.setattr("core.operations.tuned.changed_version", refuse)
    monkeypatch.setattr("importlib.metadata.version", refuse)
    assert loaded(tuned) == USUAL
