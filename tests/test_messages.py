"""What is said when something is missing or in the way, and that it is said before the work."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.checkpoint.resolve import resolve
from core.cli import main
from core.operations.inspection import inspect_model
from core.plugin.plugin import PLUGIN_GROUP
from core.plugin.registry import registry
from core.scaffold import write_backend
from tests.conftest import Exports, copy_model

TEXTS = ["a fox", "embeddings turn sentences into vectors"]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 133466304\n"


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return copy_model(tiny_model("bert-mean"), tmp_path / "tiny")


@pytest.fixture
def onnx_only(exports: Exports, tmp_path: Path) -> Path:
    """A directory that holds nothing but an ONNX file."""
    path = copy_model(exports("bert-mean", "onnx"), tmp_path / "onnx-only")
    (path / "model.safetensors").unlink()
    return path


def config(path: Path, **changes: Any) -> None:
    file = path / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the torch backend is not installed."""
    monkeypatch.setenv("CORE_DISABLE_PLUGINS", "torch")
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


def refuse_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model is the work that checks come before."""

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was loaded before the arguments were checked")

    monkeypatch.setattr("core.load", load)
    monkeypatch.setattr("core.operations.hooks.find_or_export", load)


# Which backend


def test_the_backend_that_has_a_file_is_chosen_and_that_is_said_once(
    onnx_only: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        with core.load(onnx_only) as model:
            assert model.backend == "onnx"
            assert model.encode(TEXTS).shape == (2, 32)
    messages = [record.getMessage() for record in caplog.records]
    said = [text for text in messages if "loading it with the onnx backend" in text]
    assert len(said) == 1
    assert "no file for the torch backend" in said[0]


def test_a_named_file_chooses_its_backend(onnx_only: Path) -> None:
    shutil.copyfile(onnx_only / "onnx/model.onnx", onnx_only / "onnx/model_O9.onnx")
    with core.load(onnx_only, file_name="onnx/model_O9.onnx") as model:
        assert (model.backend, model.file_name) == ("onnx", "onnx/model_O9.onnx")


def test_a_named_backend_is_not_replaced(onnx_only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(core.ArtifactNotFound, match="For backend='onnx' it has one"):
        core.load(onnx_only, backend="torch")
    monkeypatch.setenv("CORE_BACKEND", "torch")
    with pytest.raises(core.ArtifactNotFound, match="For backend='onnx' it has one"):
        core.load(onnx_only)


@pytest.mark.parametrize("name", ["onxx", "Tuned"])
def test_the_variable_that_names_a_backend_is_named(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with pytest.raises(core.CoreError) as named:
        core.load(tiny, backend=name)
    monkeypatch.setenv("CORE_BACKEND", name)
    with pytest.raises(core.CoreError) as told:
        core.load(tiny)
    assert str(told.value) == f"{named.value} $CORE_BACKEND names it."


def test_a_model_with_torch_weights_stays_with_torch(exports: Exports) -> None:
    with core.load(exports("bert-mean", "onnx")) as model:
        assert model.backend == "torch"


def test_openvino_runs_an_onnx_file_where_nothing_can_be_exported(
    onnx_only: Path, exports: Exports, caplog: pytest.LogCaptureFixture
) -> None:
    with core.load(exports("bert-mean", "onnx"), backend="onnx") as model:
        expected = model.encode(TEXTS)
    with core.load(onnx_only, backend="openvino") as model:
        assert model.file_name == "onnx/model.onnx"
        np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)
    assert "running onnx/model.onnx" in caplog.text
    rows = [a for a in inspect_model(resolve(onnx_only)).artifacts if a.backend == "openvino"]
    assert [row.file for row in rows] == ["onnx/model.onnx"]
    with core.load(exports("bert-mean", "onnx"), backend="openvino", export=False) as model:
        assert model.file_name == "onnx/model.onnx"


@pytest.mark.usefixtures("no_torch")
def test_openvino_without_torch_runs_an_onnx_file(exports: Exports) -> None:
    with core.load(exports("bert-mean", "onnx"), backend="openvino") as model:
        assert model.file_name == "onnx/model.onnx"


@pytest.mark.usefixtures("no_torch")
def test_without_torch_a_model_without_a_file_says_how_to_get_one(tiny: Path) -> None:
    with pytest.raises(core.ArtifactNotFound) as raised:
        core.load(tiny, backend="onnx")
    message = str(raised.value)
    assert f"core export {tiny} --backend onnx --target DIRECTORY" in message
    assert "a model needs model.onnx or onnx/model.onnx" in message


@pytest.fixture(scope="module")
def torch_int8(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds nothing but an int8 file for torch."""
    path = copy_model(tiny_model("bert-mean"), tmp_path_factory.mktemp("torch-int8") / "model")
    with core.load(path, backend="torch", device="cpu") as model:
        core.quantize(model, calibration=TEXTS)
    (path / "model.safetensors").unlink()
    return path


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_an_export_of_int8_alone_says_what_it_starts_from(torch_int8: Path, backend: str) -> None:
    with pytest.raises(core.UnsupportedOperation) as caught:
        core.export(torch_int8, backend=backend)
    said = str(caught.value)
    for part in (
        str(torch_int8),
        "safetensors, which are int8",
        "floating point",
        "Export the model",
    ):
        assert part in said
    assert "traced" not in said


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_an_export_without_weights_does_not_advise_itself(onnx_only: Path, backend: str) -> None:
    with pytest.raises(core.ArtifactNotFound, match=r"no weights to export from") as raised:
        core.export(onnx_only, backend=backend)
    assert "It has onnx/model.onnx" in str(raised.value)
    assert f"backend={backend!r}" not in str(raised.value)


def test_names_in_any_case(tiny: Path, tmp_path: Path) -> None:
    artifact = core.export(tiny, tmp_path / "half", backend="TORCH", precision="FP16")
    assert (artifact.backend, artifact.precision) == ("torch", "fp16")
    with core.load(tiny, backend="Torch", device="CPU") as model:
        assert model.backend == "torch"
        assert core.optimize(model, "BF16", tmp_path / "out").precision == "bf16"
    with pytest.raises(core.BackendNotFound, match="Did you mean 'onnx'"):
        core.load(tiny, backend="ONNXX")


def test_a_loaded_model_can_be_exported(tiny: Path, tmp_path: Path) -> None:
    with core.load(tiny, backend="torch", device="cpu") as model:
        artifact = core.export(model, tmp_path / "out", backend="onnx")
        with artifact.load() as again:
            np.testing.assert_allclose(again.encode(TEXTS), model.encode(TEXTS), atol=1e-5)
        with pytest.raises(core.OptionError, match="revision"):
            core.export(model, backend="onnx", revision="main")
    with pytest.raises(core.OptionError, match="closed"):
        core.export(model, backend="onnx")


def test_a_target_that_may_not_be_written_is_found_first(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The user that runs the tests may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode, **_: Path(path) != tmp_path)
    refuse_to_load(monkeypatch)
    with pytest.raises(core.CoreError, match="read-only for this user"):
        core.export(tiny, tmp_path / "out", backend="onnx")


@pytest.mark.skipif(sys.platform == "darwin", reason="names there are always UTF-8")
def test_a_path_that_is_not_utf_8_is_refused_before_the_work(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No runtime and no tokenizer opens files there; nothing is written that cannot be loaded."""
    (tmp_path / "a.txt").write_text("a\n")
    place = tmp_path / os.fsdecode(b"bytes\xff")
    shutil.copytree(tiny, place / "model")
    refused = pytest.raises(core.OptionError, match="are not UTF-8: no runtime opens files")
    with refused:
        core.load(place / "model", backend="torch")
    with core.load(tiny, backend="torch", device="cpu") as model:
        refuse_to_load(monkeypatch)
        for call in (
            lambda: core.export(tiny, place / "new", backend="onnx"),
            lambda: model.optimize("fp16", place / "new"),
            lambda: model.save(place / "new"),
            lambda: core.embed_dataset(tmp_path / "a.txt", place / "new", model),
        ):
            with refused:
                call()
    assert [path.name for path in place.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "words",
    [
        ("export", "--backend", "onnx", "--file-name", "\udcff.onnx"),
        ("optimize", "--backend", "torch", "--file-suffix", "\udcff"),
        ("quantize", "--backend", "torch", "--file-suffix", "\udcff"),
    ],
)
def test_a_name_that_is_not_utf_8_is_refused_before_the_work(
    tiny: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    refuse_to_load(monkeypatch)
    command, *rest = words
    assert main([command, str(tiny), "--target", str(tmp_path / "new"), *rest]) == 2
    assert f"{words[3]} {words[4]!r} is not UTF-8" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that this user may not enter; the user that runs the tests may enter any."""
    stat, access = os.stat, os.access
    place = tmp_path / "closed"
    place.mkdir()

    def refusing(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and place in Path(path).parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, *arguments, **options)

    monkeypatch.setattr("os.stat", refusing)
    monkeypatch.setattr(
        "os.access", lambda path, mode, **_: Path(path) != place and access(path, mode)
    )
    return place


def test_a_directory_that_may_not_be_entered_is_named(tiny: Path, closed: Path) -> None:
    with pytest.raises(core.ModelError, match=rf"look for a directory.* `chmod a\+x {closed}`"):
        core.load(closed / "model", backend="torch")
    with pytest.raises(core.CoreError, match="Choose a directory you may write"):
        core.export(tiny, closed / "out", backend="onnx")
    with pytest.raises(core.CoreError, match="Choose a directory you may write"):
        write_backend("mine", closed / "mine")


# What is wrong with the files


def test_weights_of_another_shape_are_named(tiny: Path) -> None:
    config(tiny, intermediate_size=48)
    with pytest.raises(core.ModelFormatError) as raised:
        core.load(tiny, backend="torch")
    message = str(raised.value)
    assert "model.safetensors does not fit config.json" in message
    assert (
        "encoder.layer.0.intermediate.dense.bias is [64] and config.json makes it [48]" in message
    )


def test_int8_weights_of_another_shape_are_named(tiny: Path) -> None:
    with core.load(tiny, backend="torch", device="cpu") as model:
        file = core.quantize(model, num_samples=8).file_name
    config(tiny, vocab_size=9)
    with pytest.raises(core.ModelFormatError, match=r"word_embeddings.weight is \[\d+, 32\]"):
        core.load(tiny, backend="torch", file_name=file)


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("torch", "model.safetensors"),
        ("torch", "config.json"),
        ("torch", "modules.json"),
        ("torch", "1_Pooling/config.json"),
        ("torch", "tokenizer.json"),
        ("torch", "pytorch_model.bin"),
        ("torch", "vocab.txt"),
        ("torch", "2_Dense/model.safetensors"),
        ("onnx", "onnx/model.onnx"),
        ("onnx", "tokenizer_config.json"),
        ("openvino", "openvino/openvino_model.xml"),
        ("openvino", "openvino/openvino_model.bin"),
    ],
)
def test_a_pointer_of_git_lfs_is_called_so(
    tiny: Path, exports: Exports, tmp_path: Path, backend: str, name: str
) -> None:
    path = tiny
    if backend != "torch":
        path = copy_model(exports("bert-mean", backend), tmp_path / "exported")
    if name == "pytorch_model.bin":
        (path / "model.safetensors").unlink()
    if name == "vocab.txt":
        (path / "tokenizer.json").unlink()
    if name == "2_Dense/model.safetensors":
        (path / "2_Dense").mkdir()
        settings = {"in_features": 32, "out_features": 8, "bias": True}
        (path / "2_Dense/config.json").write_text(json.dumps(settings))
        chain = json.loads((path / "modules.json").read_text())
        kind = "sentence_transformers.models.Dense"
        chain.append({"idx": 2, "name": "2", "path": "2_Dense", "type": kind})
        (path / "modules.json").write_text(json.dumps(chain))
    (path / name).unlink(missing_ok=True)  # it may be a hard link
    (path / name).write_text(POINTER)
    with pytest.raises(core.ModelFormatError, match=r"pointer of Git LFS.*git lfs pull") as raised:
        core.load(path, backend=backend)
    assert name in str(raised.value)


def bare(name: str, path: Path, tiny: Path) -> Path:
    """A checkpoint of transformers that is not a text encoder."""
    import transformers

    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    seeing = {**sizes, "image_size": 32, "patch_size": 16}
    if name == "m2m100":
        layers = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "vocab_size": 600}
        made = transformers.M2M100Model(transformers.M2M100Config(**layers))
    elif name == "marian":  # its file has no positions, which are computed
        layers = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 32, "vocab_size": 600}
        layers |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "pad_token_id": 0}
        made = transformers.MarianMTModel(transformers.MarianConfig(**layers))
    elif name == "dpr":
        made = transformers.DPRQuestionEncoder(transformers.DPRConfig(**sizes, vocab_size=600))
    elif name == "clip":
        reading = {**sizes, "vocab_size": 600, "eos_token_id": 2, "bos_token_id": 1}
        both = transformers.CLIPConfig(text_config=reading, vision_config=seeing)
        made = transformers.CLIPModel(both)
    else:
        made = transformers.ViTModel(transformers.ViTConfig(**seeing))
    made.save_pretrained(path)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tiny / file, path / file)
    return path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dpr", r"DPRQuestionEncoder.*gives pooler_output, and not the token embeddings"),
        ("clip", r"CLIPModel.*gives logits_per_image.*and not the token embeddings"),
        ("m2m100", r"M2M100Model.*whose decoder needs a text of its own"),
        ("marian", r"MarianModel.*whose decoder needs a text of its own"),
        ("vit", r"ViTModel.*takes pixel_values.*and not texts"),
    ],
)
def test_a_model_that_is_no_text_encoder_is_refused_as_such(
    tiny: Path, tmp_path: Path, name: str, says: str
) -> None:
    path = bare(name, tmp_path / name, tiny)
    for call in (
        lambda: core.load(path, backend="torch"),
        lambda: core.export(path, tmp_path / "out", backend="onnx"),
    ):
        with pytest.raises(core.UnsupportedOperation, match=says):
            call()


def test_a_tokenizer_in_python_only_is_refused_as_such(tiny: Path) -> None:
    (tiny / "tokenizer.json").unlink()
    (tiny / "vocab.txt").write_text("a 1\nb 2\n")
    (tiny / "bpe.codes").write_text("#version: 0.2\na b 1\n")
    (tiny / "tokenizer_config.json").write_text('{"tokenizer_class": "PhobertTokenizer"}')
    config(tiny, model_type="roberta")
    with pytest.raises(core.UnsupportedOperation) as raised:
        core.load(tiny, backend="torch")
    assert "PhobertTokenizer" in str(raised.value)
    assert "has no attribute" not in str(raised.value)


# Before the work


def test_a_target_in_the_way_is_found_first(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/onnx").write_text("mine")
    with core.load(tiny, backend="torch", device="cpu") as model:
        refuse_to_load(monkeypatch)
        for target in ("file", "file/below", "taken"):
            with pytest.raises(core.OptionError, match="is a file, not a directory"):
                core.export(tiny, tmp_path / target, backend="onnx")
        with pytest.raises(core.OptionError, match="is a file, not a directory"):
            model.optimize("fp16", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_missing_token_is_found_first(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    refuse_to_load(monkeypatch)
    with pytest.raises(core.ModelError, match="no token was given"):
        core.export(tiny, tmp_path / "out", backend="onnx", push_to_hub="owner/name")
    assert main(["optimize", str(tiny), "--push-to-hub", "owner/name"]) == 1
    assert "hf auth login" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says", "code"),
    [
        (("encode", "--input", "absent.txt"), "Cannot read 'absent.txt'", 1),
        (("encode", "a", "--batch-size", "0"), "--batch-size must be 1 or more", 2),
        (("encode", "a", "--output", "absent/x.npy"), "does not exist", 2),
        (("quantize", "--calibration", "absent.txt"), "Cannot read 'absent.txt'", 2),
        (("quantize", "--calibration", "absent"), "names a dataset", 2),
        (("quantize", "--num-samples", "0"), "--num-samples must be 1 or more", 2),
        (("quantize", "--set", "min_cosine"), "--set takes name=value", 2),
        (("quantize", "--set", "min_cosine=7"), "min_cosine must lie between", 2),
        (("quantize", "--set", "min_cosin=0.9"), "Did you mean 'min_cosine'", 2),
        (("quantize", "-b", "onnx", "--config", "avx3"), "Did you mean 'avx2'", 2),
        (("optimize", "--file-suffix", "a/b"), "--file-suffix must be", 2),
        (("optimize", "--file-suffix", "x" * 300), "--file-suffix has 300 characters", 2),
        (("optimize", "--target", "file"), "is a file, not a directory", 2),
        (("optimize", "--create-pr"), "--create-pr", 2),
        (("export", "-b", "onnx", "--set", "min_cosine=7"), "min_cosine must lie between", 2),
        (("export", "-b", "onnx", "--set", "target=file"), "what --target is for", 2),
        (("optimize", "--set", "config=O1"), "what --config is for", 2),
        (("quantize", "--set", "file_suffix=x"), "what --file-suffix is for", 2),
        (("export", "-b", "onnx", "--target", "file"), "is a file, not a directory", 2),
    ],
)
def test_the_command_line_checks_before_it_loads(
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    refuse_to_load(monkeypatch)
    command, *rest = arguments
    assert main([command, str(tiny), *rest]) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_cache_that_cannot_be_written_names_its_variable(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    (tmp_path / "file").write_text("mine")
    monkeypatch.setenv("CORE_CACHE", str(tmp_path / "file"))
    with pytest.raises(core.CoreError, match=r"Cannot write .*file.*\$CORE_CACHE"):
        core.load(tiny, backend=backend)
    assert (tmp_path / "file").read_text() == "mine"


# The command line's own words


@pytest.mark.parametrize(
    ("arguments", "says", "not_says"),
    [
        (("encode", "a", "--prompt-name", "query"), "--prompt ...", "prompt="),
        (("encode", "a", "-b", "onnx", "--file-name", "x.onnx"), "x.onnx", "file_name"),
        (("encode", "a", "-b", "torch"), "--backend onnx", "backend="),
        (("encode", "a", "--batch-tokens", "0"), "--batch-tokens", "batch_tokens"),
    ],
)
def test_messages_name_the_options_of_the_command(
    tiny: Path,
    onnx_only: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    says: str,
    not_says: str,
) -> None:
    command, *rest = arguments
    path = onnx_only if "onnx" in says else tiny
    assert main([command, str(path), *rest]) in (1, 2)
    error = capsys.readouterr().err
    assert says in error
    assert not_says not in error


@pytest.mark.parametrize(
    ("words", "not_says"),
    [
        (("info", "{}/config.json"), "file_name"),
        (("encode", "{}", "a", "--truncate-dim", "99"), "None"),
        (("encode", "{}", "a", "--precision", "int8"), "core.quantize"),
    ],
)
def test_messages_speak_of_no_python(
    tiny: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], not_says: str
) -> None:
    assert main([word.format(tiny) for word in words]) in (1, 2)
    assert not_says not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "words", "says"),
    [
        (
            "reranker-bert",
            ("encode", "a"),
            "is a reranker, not an embedding model: use `core rerank`.",
        ),
        ("reranker-bert", ("similarity", "a", "--kind", "sparse"), "give --kind reranker."),
        (
            "splade",
            ("rerank", "query", "a"),
            "is a sparse encoder, not a reranker: use `core encode`.",
        ),
        ("splade", ("encode", "a", "--kind", "embedding"), "give --kind sparse."),
    ],
)
def test_a_model_of_another_kind_gets_the_command_for_it(
    tiny_kind: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    kind: str,
    words: tuple[str, ...],
    says: str,
) -> None:
    assert main([words[0], str(tiny_kind(kind)), *words[1:]]) in (1, 2)
    error = capsys.readouterr().err
    assert says.rstrip(".") in error
    assert "core.load" not in error


def test_an_option_at_the_end_of_a_sentence_is_the_command_s(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a"}\n')
    for option in ("--id-column", "--text-column"):
        words = ["batch", str(rows), str(tmp_path / "out"), "--model", str(tiny), option, "body"]
        assert main(words) == 2
        assert capsys.readouterr().err.endswith(f"Name one of them with {option}.\n")


def test_warnings_name_the_options_of_the_command(
    exports: Exports, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = copy_model(exports("bert-mean", "onnx"), tmp_path / "two")
    shutil.copyfile(path / "onnx/model.onnx", path / "onnx/model_mine.onnx")
    with caplog.at_level(logging.WARNING):
        main(["encode", str(path), "a", "--backend", "onnx"])
    assert "file_name" not in caplog.text


def test_backends_lists_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    class Watching:
        @core.hookimpl(wrapper=True)
        def encode(self, model: Any, texts: Any, options: Any) -> Any:
            return (yield)

    core.register_plugin("watching", Watching())
    try:
        assert main(["backends"]) == 0
    finally:
        registry.unregister(PLUGIN_GROUP, "watching")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("PLUGIN") for line in lines)
    assert any(line.startswith("watching") and "ok" in line for line in lines)


# Addresses


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("https://example.com/owner/name", "is not an address of the Hub"),
        ("{hub}/owner", "does not show a model's repository"),
        (
            "{hub}/owner/name/blob/v1/onnx/model.onnx",
            r"repository, 'owner/name', with revision='v1' and file_name='onnx/model.onnx'",
        ),
        ("{hub}/owner/name/tree/v1", "revision='v2'"),
    ],
)
def test_an_address_that_shows_no_repository(
    monkeypatch: pytest.MonkeyPatch, address: str, says: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    with pytest.raises(core.CoreError, match=says):
        core.load(address.format(hub="https://hub.invalid"), backend="onnx", revision="v2")


def test_a_path_that_leads_nowhere_is_refused_by_name(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with core.load(tiny, backend="torch") as model:
        for call in (model.save, lambda path: core.export(model, path, backend="onnx")):
            with pytest.raises(core.OptionError, match=r"\\ud800' has half a character"):
                call(str(tmp_path / "\ud800"))
        gone = tmp_path / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        for call in (model.save, lambda path: core.export(model, path, backend="onnx")):
            with pytest.raises(core.OptionError, match="='out' is seen from a working directory"):
                call("out")
        with pytest.raises(core.ModelNotFound, match="seen from a working directory that is gone"):
            core.load("./out")


def test_a_number_that_nothing_can_have_is_refused_or_no_limit(tiny: Path) -> None:
    file = tiny / "sentence_bert_config.json"
    file.write_text(json.dumps({"max_seq_length": 10**30}))
    with core.load(tiny, backend="torch") as model:
        assert model.max_seq_length == model.runtime.architecture.max_positions
        for change in ({"batch_size": 10**30}, {"batch_tokens": 2**63}):
            with pytest.raises(core.OptionError, match=rf"{next(iter(change))} must be .* or less"):
                model.encode(TEXTS, **change)
        with pytest.raises(core.OptionError, match=r"max_seq_length must be .* or less"):
            model.max_seq_length = 10**30
