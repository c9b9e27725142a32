"""Directories made to do harm, or broken: an error, no code run, bounded memory and time."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.checkpoint.resolve import resolve
from core.errors import CoreError, ModelError, ModelFormatError, ModelNotFound
from core.files.weights import read_weights, write_safetensors
from tests.checkpoint.dialects import build_dialect, chain, read, write
from tests.conftest import ROOT, as_another_user

OLD = "sentence_transformers.models."


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("bert-cls"), folder)
    return folder


def load(folder: Path, **arguments: Any) -> core.EmbeddingModel:
    return core.load(str(folder), backend="torch", device="cpu", **arguments)


def outside(tiny: Path) -> Path:
    """A good Pooling folder beside the model."""
    place = tiny.parent / "outside"
    shutil.copytree(tiny / "1_Pooling", place)
    return place


@pytest.mark.parametrize(
    "path", ["../outside", "1_Pooling/../../outside", "ABSOLUTE", "..\\outside", "C:\\outside"]
)
def test_a_module_path_out_of_the_directory_is_refused(tiny: Path, path: str) -> None:
    place = outside(tiny)
    modules = read(tiny, "modules.json")
    modules[1]["path"] = str(place) if path == "ABSOLUTE" else path
    write(tiny, "modules.json", modules)
    with pytest.raises(ModelFormatError, match="points outside the model's directory"):
        load(tiny)


@pytest.mark.parametrize("name", ["../outside/x.safetensors", "/etc/passwd", "a/../../b", "\0"])
def test_a_file_name_out_of_the_directory_is_refused(tiny: Path, name: str) -> None:
    with pytest.raises(CoreError, match="named as file_name, points outside the model's directory"):
        load(tiny, file_name=name)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_link_out_of_the_directory_is_refused(tiny: Path, name: str) -> None:
    place = tiny.parent / "elsewhere"
    (tiny / name).rename(place)
    (tiny / name).symlink_to(place)
    with pytest.raises(ModelFormatError, match="outside the model's directory"):
        load(tiny)


def test_a_linked_folder_out_of_the_directory_is_refused(tiny: Path) -> None:
    place = outside(tiny)
    shutil.rmtree(tiny / "1_Pooling")
    (tiny / "1_Pooling").symlink_to(place)
    with pytest.raises(ModelFormatError, match=r"outside the model's directory"):
        load(tiny)


def test_a_link_inside_the_directory_is_fine(tiny: Path) -> None:
    (tiny / "weights").mkdir()
    (tiny / "model.safetensors").rename(tiny / "weights/real")
    (tiny / "model.safetensors").symlink_to("weights/real")
    with load(tiny) as model:
        assert model.encode("x").shape == (32,)


def test_a_pipe_in_the_place_of_a_file_does_not_hang(tiny: Path) -> None:
    (tiny / "config.json").unlink()
    os.mkfifo(tiny / "config.json")
    with pytest.raises(ModelFormatError, match="not a regular file"):
        load(tiny)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"max_position_embeddings": 10**9}, "max_position_embeddings is 1000000000"),
        ({"vocab_size": 10**9}, "vocab_size is 1000000000"),
        ({"type_vocab_size": 10**9}, "type_vocab_size is 1000000000"),
        ({"intermediate_size": 10**9}, "intermediate_size is 1000000000"),
        ({"vision_config": {"num_hidden_layers": 10**9}}, "vision_config: num_hidden_layers is 10"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_the_weights_cannot_have_are_refused(
    tiny: Path, changes: dict[str, Any], says: str
) -> None:
    """A few bytes would make tables of any size, or layers without end."""
    write(tiny, "config.json", {**read(tiny, "config.json"), **changes})
    with pytest.raises(ModelFormatError, match=rf"model: config\.json: {says}.*model\.safetensors"):
        load(tiny)


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000"),
        ({"dtype": "float31"}, "dtype is 'float31'"),
        ({"pad_token_id": 10**6}, "pad_token_id is 1000000"),
    ],
    ids=str,
)
def test_what_config_args_change_is_checked_too(
    tiny: Path, stored: dict[str, Any], says: str
) -> None:
    settings = read(tiny, "sentence_bert_config.json")
    write(tiny, "sentence_bert_config.json", {**settings, "config_args": stored})
    with pytest.raises(ModelFormatError, match=says):
        load(tiny)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_labels": 10**9},
        {"id2label": {"a": "b"}, "label2id": [1], "problem_type": "x"},
        {"chunk_size_feed_forward": 1000},
        {"task_specific_params": {"a": {"b": [1]}}},
    ],
    ids=str,
)
def test_settings_that_change_no_embedding_stop_none(tiny: Path, changes: dict[str, Any]) -> None:
    with load(tiny) as model:
        expected = model.encode(["a fox", "the lazy dog sleeps"])
    write(tiny, "config.json", {**read(tiny, "config.json"), **changes})
    with load(tiny) as model:
        np.testing.assert_allclose(model.encode(["a fox", "the lazy dog sleeps"]), expected)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps.*float"),
        ({"hidden_act": "__import__"}, "transformers knows no '__import__'"),
        ({"pad_token_id": 10**6}, "pad_token_id is 1000000, and there are 2.. tokens"),
    ],
    ids=str,
)
def test_what_transformers_refuses_is_said(tiny: Path, changes: dict[str, Any], says: str) -> None:
    write(tiny, "config.json", {**read(tiny, "config.json"), **changes})
    with pytest.raises(ModelFormatError, match=says):
        load(tiny)


def test_no_file_is_recommended_that_cannot_be_loaded(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tiny, "config.json", {**read(tiny, "config.json"), "transformers_weights": "/etc/passwd"})
    load(tiny).close()
    assert "config.json names the weights '/etc/passwd'" in caplog.text
    assert "file_name" not in caplog.text


class Evil:
    """Its pickle runs a command when it is opened."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.place}",)


def write_torch_archive(path: Path, pickled: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")


@pytest.mark.parametrize(
    ("file", "kind", "says"),
    [
        ("pytorch_model.bin", "archive", "damaged, or holds other things than weights"),
        ("pytorch_model.bin", "plain", "damaged, or holds other things than weights"),
        ("2_Dense/pytorch_model.bin", "archive", r"wants to run posix\.system"),
        ("2_Dense/pytorch_model.bin", "plain", "is not a whole torch checkpoint"),
    ],
)
def test_a_pickle_that_runs_code_is_refused_and_not_run(
    tmp_path: Path, file: str, kind: str, says: str
) -> None:
    folder = build_dialect("dense-in-pickle", tmp_path / "model")
    ran = tmp_path / "ran"
    pickled = pickle.dumps({"linear.weight": Evil(ran)})
    (folder / "model.safetensors").rename(tmp_path / "kept")
    if file != "pytorch_model.bin":
        (tmp_path / "kept").rename(folder / "model.safetensors")
    if kind == "archive":
        write_torch_archive(folder / file, pickled)
    else:
        (folder / file).write_bytes(pickled)
    with pytest.raises(ModelError, match=says):
        load(folder)
    assert not ran.exists()
    pickle.loads(pickled)  # it does run where nobody looks
    assert ran.exists()


@pytest.mark.parametrize("content", [b"", b"<html>Sign in</html>", bytes(range(256))])
def test_weights_that_are_no_pickle_are_called_damaged(tmp_path: Path, content: bytes) -> None:
    folder = build_dialect("dense-in-pickle", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: it is damaged") as caught:
        load(folder)
    assert "weights_only" not in str(caught.value)


def test_weights_that_were_packed_again_with_compression_are_named(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = build_dialect("dense-in-pickle", tmp_path / "model")
    file = folder / "pytorch_model.bin"
    torch.save(load_file(folder / "model.safetensors"), file)
    (folder / "model.safetensors").unlink()
    with load(folder) as model:
        model.encode("a fox")
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ModelFormatError, match=r"pytorch_model\.bin is a compressed archive"):
        load(folder)


@pytest.mark.parametrize("name", ["onnx/model.onnx", "README.md"])
def test_files_of_other_programs_are_no_weights(tmp_path: Path, name: str) -> None:
    folder = build_dialect("dense-in-pickle", tmp_path / "model")
    (folder / "onnx").mkdir()
    (folder / name).write_bytes(b"another program's")
    with pytest.raises(CoreError, match=rf"PyTorch reads .*safetensors.* not '{name}'"):
        core.load(folder, backend="torch", file_name=name)


def test_a_pickle_cannot_claim_more_memory_than_it_has(tmp_path: Path) -> None:
    import torch

    place = tmp_path / "bomb.bin"
    torch.save({"x": torch.zeros(1).expand(1_000_000_000)}, place)
    with pytest.raises(ModelFormatError, match="reaches out of its storage"):
        read_weights(place)
    with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    with pytest.raises(ModelFormatError, match="claims to unpack to 50,000,000"):
        read_weights(place)


def test_a_pickle_cannot_make_much_of_one_storage(tmp_path: Path) -> None:
    import torch

    place = tmp_path / "weights.bin"
    storage = torch.arange(1_000_000, dtype=torch.float32)
    torch.save({"x": storage, "tied": storage, "turned": storage.view(1000, 1000).T}, place)
    assert read_weights(place)["turned"][1, 0] == 1
    torch.save({str(i): storage.view(1000, 1000).T for i in range(200)}, place)
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match="repeat its storages"):
        read_weights(place)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000


def test_a_pickle_cannot_reserve_memory_by_numbers(tmp_path: Path) -> None:
    """LONG_BINPUT: everything up to that place would be made room for."""
    place = tmp_path / "weights.bin"
    write_torch_archive(place, b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(ModelFormatError, match="the place 2,147,483,647"):
        read_weights(place)


def test_a_huge_modules_json_is_refused_unread(tiny: Path) -> None:
    entry = '{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},'
    (tiny / "modules.json").write_text("[" + entry * (10_000_000 // len(entry)) + "{}]")
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match=r"modules.json has 9,\d+,\d+ bytes.*at most"):
        load(tiny)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    "name", ["modules.json", "config.json", "tokenizer_config.json", "1_Pooling/config.json"]
)
@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"a":' * 300_000,
        b"",
        b"\xff\xfe\x00garbage",
        b"{}garbage",
        b"null",
        b'"text"',
        b'{"a": ' + b"9" * 100_000 + b"}",
        b'{"a": "\\ud800"}',
        b'{"a": "\xed\xa0\x80"}',
    ],
    ids=[
        "nested", "nested objects", "empty", "bytes", "trailing", "null", "string", "long number",
        "half a character", "half a character in bytes",
    ],
)  # fmt: skip
def test_unreadable_json_is_named(tiny: Path, name: str, content: bytes) -> None:
    (tiny / name).write_bytes(content)
    with pytest.raises(ModelFormatError, match=name):
        load(tiny)


def test_a_file_that_only_saving_reads_is_named(tmp_path: Path) -> None:
    folder = build_dialect("static-table", tmp_path / "model")
    (folder / "tokenizer_config.json").write_bytes(b"{")
    with load(folder) as model, pytest.raises(ModelFormatError, match=r"tokenizer_config\.json is"):
        model.save(tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("version", ["9" * 5000, "5.²", 5, None])
def test_a_version_that_is_none_stops_no_save(tiny: Path, version: Any, tmp_path: Path) -> None:
    settings = {"__version__": {"sentence_transformers": version}}
    write(tiny, "config_sentence_transformers.json", settings)
    with load(tiny) as model:
        model.save(tmp_path / "saved")


@pytest.mark.parametrize(
    "content",
    [
        b"garbage",
        b"{}",
        b'{"model": {"type": "BPE"}}',
        b"[" * 500_000,
        b"",
        bytes(range(256)) * 1000,
    ],
    ids=["text", "empty object", "half a model", "nested", "empty", "bytes"],
)
def test_a_tokenizer_json_of_garbage_is_named(tiny: Path, content: bytes) -> None:
    (tiny / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"tokenizer.json is not a tokenizer"):
        load(tiny)


def _template(tiny: Path, part: dict[str, Any], ids: list[int]) -> None:
    """Around a text `ids` under one name, and `part` in the place of the text itself."""
    mark = {"SpecialToken": {"id": "[CLS]", "type_id": 0}}
    template = {
        "type": "TemplateProcessing",
        "single": [mark, part],
        "pair": [{"Sequence": {"id": name, "type_id": 0}} for name in "AB"],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": ids, "tokens": ["[CLS]"]}},
    }
    write(tiny, "tokenizer.json", {**read(tiny, "tokenizer.json"), "post_processor": template})


def test_a_tokenizer_that_fails_on_every_text_is_named(tiny: Path) -> None:
    _template(tiny, {"Sequence": {"id": "B", "type_id": 0}}, [2])  # of a single text there is none
    with pytest.raises(ModelFormatError, match=r"tokenizer.json cannot encode a text"):
        load(tiny)


def test_one_mark_may_be_several_tokens_around_a_text(tiny: Path) -> None:
    _template(tiny, {"Sequence": {"id": "A", "type_id": 0}}, [2, 5, 6])
    with load(tiny) as model:
        assert model.tokenizer.encode([""]).ids.tolist() == [2, 5, 6]
        assert model.encode("a text").shape == (32,)


def _header(entries: dict[str, Any], length: int | None = None) -> bytes:
    encoded = json.dumps(entries).encode()
    return (len(encoded) if length is None else length).to_bytes(8, "little") + encoded


_ENTRY = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"1234567",
        _header({}, length=2**63),
        _header({}, length=50_000_000),
        _header({"x": _ENTRY}),
        _header({"x": {**_ENTRY, "data_offsets": [-16, 0]}}) + bytes(16),
        _header({"x": {**_ENTRY, "shape": [2**40, 2**40]}}) + bytes(16),
        _header({"x": {**_ENTRY, "shape": [-4, -1]}}) + bytes(16),
        _header({"x": {**_ENTRY, "shape": [4, *[1] * 40]}}) + bytes(16),
        _header({"x": {"dtype": "F32", "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}}),
        _header({"x": {**_ENTRY, "shape": [10**4000] * 300}}) + bytes(16),
        _header({"x": {**_ENTRY, "shape": [[4]]}}) + bytes(16),
        _header({"x": {**_ENTRY, "shape": 4}}) + bytes(16),
        _header({"x": {**_ENTRY, "dtype": ["F32"]}}) + bytes(16),
        _header({"x": _ENTRY, "y": _ENTRY}) + bytes(16),
        _header({"x": 1}) + bytes(16),
        (500_000).to_bytes(8, "little") + b"[" * 500_000,
    ],
    ids=[
        "empty", "seven bytes", "endless header", "header past the end", "no data",
        "negative offset", "overflowing shape", "negative shape", "40 dimensions",
        "endless and empty", "endless sizes", "nested shape", "number as shape",
        "list as dtype", "overlapping tensors",
        "number as entry", "nested header",
    ],
)  # fmt: skip
@pytest.mark.parametrize("file", ["model.safetensors", "2_LayerNorm/model.safetensors"])
def test_broken_safetensors_are_named(tmp_path: Path, file: str, content: bytes) -> None:
    folder = build_dialect("layer-norm", tmp_path / "model")
    (folder / file).write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"is not a whole safetensors file"):
        load(folder)


def test_a_static_table_cannot_point_outside_itself(tmp_path: Path) -> None:
    folder = build_dialect("static-table", tmp_path / "model")
    weights: dict[str, np.ndarray] = {
        "embeddings": np.zeros((4, 8), np.float32),
        "mapping": np.array([0, 1, 2, 4]),
    }
    write_safetensors(folder / "0_StaticEmbedding/model.safetensors", weights)
    with pytest.raises(ModelFormatError, match="outside its 4 embeddings"):
        load(folder)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"embedding.weight": np.ones((400, 8), np.int32)}, "has dtype int32"),
        ({"embedding.weight": np.full((400, 8), np.nan, np.float32)}, "not finite"),
        ({"embeddings": np.full((400, 8), np.inf, np.float32)}, "not finite"),
        (
            {
                "embeddings": np.ones((400, 8), np.float32),
                "weights": np.full(400, np.nan, np.float32),
            },
            "not finite",
        ),
        (
            {
                "embeddings": np.ones((400, 8), np.float32),
                "mapping": np.zeros(400, np.float32),
            },
            "mapping has dtype float32",
        ),
    ],
)
def test_a_static_table_of_a_wrong_kind_is_named(
    tmp_path: Path, weights: dict[str, Any], says: str
) -> None:
    folder = build_dialect("static-table", tmp_path / "model")
    write_safetensors(folder / "0_StaticEmbedding/model.safetensors", weights)
    with pytest.raises(ModelFormatError, match=says):
        load(folder)


@pytest.mark.parametrize(
    ("settings", "weights", "says"),
    [
        ({"dimension": 16}, {}, r"norm.weight of '2_LayerNorm' has shape \(32,\).*\(16,\)"),
        ({"dimension": "32"}, {}, "dimension is '32'"),
        ({"dimension": 32}, {"norm.weight": np.ones(32, np.int64)}, "has dtype int64"),
        ({"dimension": 32}, {"norm.bias": np.full(32, np.nan, np.float32)}, "not finite"),
        ({"dimension": 32}, {"norm.bias": np.ones(31, np.float32)}, r"asks for \(32,\)"),
    ],
)
def test_a_layer_norm_of_a_wrong_kind_is_named(
    tmp_path: Path, settings: dict[str, Any], weights: dict[str, Any], says: str
) -> None:
    folder = build_dialect("layer-norm", tmp_path / "model")
    write(folder, "2_LayerNorm/config.json", settings)
    good = {f"norm.{name}": np.ones(32, np.float32) for name in ("weight", "bias")}
    write_safetensors(folder / "2_LayerNorm/model.safetensors", {**good, **weights})
    with pytest.raises(ModelFormatError, match=says):
        load(folder)


def test_a_dense_of_another_shape_is_named(tmp_path: Path) -> None:
    folder = build_dialect("dense-in-pickle", tmp_path / "model")
    (folder / "2_Dense/pytorch_model.bin").unlink()
    weights: dict[str, np.ndarray] = {
        "linear.weight": np.zeros((16, 32), np.float32),
        "linear.bias": np.zeros(3),
    }
    write_safetensors(folder / "2_Dense/model.safetensors", weights)
    with pytest.raises(ModelFormatError, match=r"linear.bias of '2_Dense' has shape \(3,\)"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("modules.json", [], "modules.json is empty"),
        ("modules.json", [{"path": ""}], "an entry without a type"),
        ("modules.json", [{"type": OLD + "Transformer", "path": 3}], "has the path 3"),
        ("sentence_bert_config.json", {"max_seq_length": -1}, "max_seq_length is -1"),
        ("sentence_bert_config.json", {"max_seq_length": "512"}, "max_seq_length is '512'"),
        ("1_Pooling/config.json", {"pooling_mode": "best"}, "known are cls, max, mean"),
        ("config_sentence_transformers.json", {"prompts": ["a"]}, "must map names to strings"),
        ("config_sentence_transformers.json", {"default_prompt_name": "q"}, "not among its"),
        ("config_sentence_transformers.json", {"prompts": {"q": 1}}, "must map names to strings"),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": []},
            "must be a text or null",
        ),
        ("config_sentence_transformers.json", {"truncate_dim": True}, "truncate_dim is True"),
        ("config_sentence_transformers.json", {"truncate_dim": "8"}, "truncate_dim is '8'"),
        ("sentence_bert_config.json", {"max_seq_length": True}, "max_seq_length is True"),
        ("sentence_bert_config.json", {"do_lower_case": "false"}, "do_lower_case is 'false'"),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": "false"}, "cls_token is 'false'"),
        ("1_Pooling/config.json", {"include_prompt": "false"}, "include_prompt is 'false'"),
        ("1_Pooling/config.json", {"pooling_mode": {"mean": True}}, "known are cls, max, mean"),
        ("1_Pooling/config.json", {"word_embedding_dimension": 24}, "of 24 dimensions, .* says 32"),
        ("1_Pooling/config.json", {"word_embedding_dimension": "32"}, "dimension is '32'"),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim is 0"),
    ],
)
def test_a_wrong_setting_is_named(tiny: Path, name: str, content: Any, says: str) -> None:
    write(tiny, name, content)
    with pytest.raises(ModelFormatError, match=says):
        load(tiny)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"bias": []}, r"bias is \[\]; it must be true or false"),
        ({"bias": "false"}, "bias is 'false'"),
        ({"use_residual": "no"}, "use_residual is 'no'"),
        ({"in_features": 16}, r"linear.weight of '2_Dense' has shape \(16, 32\).*\(16, 16\)"),
        ({"out_features": 32}, r"has shape \(16, 32\); its configuration asks for \(32, 32\)"),
        ({"in_features": "32"}, "in_features is '32'; it must be a whole number"),
        ({"activation_function": ["torch.nn.modules.activation.Tanh"]}, "activation_function is"),
        ({"module_input_name": 3}, "module_input_name is 3; it must be a text"),
    ],
)
def test_a_wrong_setting_of_a_dense_is_named(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    folder = build_dialect("dense-in-pickle", tmp_path / "model")
    place = "2_Dense/config.json"
    write(folder, place, {**json.loads((folder / place).read_text()), **settings})
    with pytest.raises(ModelFormatError, match=says):
        load(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        ("linear.weight", np.ones((16, 32), np.int64), "has dtype int64"),
        ("linear.bias", np.ones(16, np.int8), "has dtype int8"),
        ("linear.weight", np.full((16, 32), np.nan, np.float32), "not finite"),
        ("linear.bias", np.full(16, np.inf, np.float32), "not finite"),
    ],
)
def test_weights_of_a_wrong_kind_are_named(
    tmp_path: Path, name: str, tensor: Any, says: str
) -> None:
    folder = build_dialect("dense-in-pickle", tmp_path / "model")
    (folder / "2_Dense/pytorch_model.bin").unlink()
    good = {"linear.weight": np.ones((16, 32), np.float32), "linear.bias": np.ones(16, np.float32)}
    write_safetensors(folder / "2_Dense/model.safetensors", {**good, name: tensor})
    with pytest.raises(ModelFormatError, match=rf"{name} of '2_Dense' .*{says}"):
        load(folder)


@pytest.mark.parametrize(
    ("modules", "says"),
    [
        (["Normalize", "Pooling"], "before anything is pooled"),
        (["Dense", "Pooling"], "before anything is pooled"),
        (["Pooling", "LayerNorm"], "takes embeddings of 16 dimensions and is given 32"),
        (["Pooling", "Dense", "Dense"], "takes embeddings of 32 dimensions and is given 16"),
    ],
)
def test_modules_that_do_not_fit_together_are_named(
    tmp_path: Path, modules: list[str], says: str
) -> None:
    folder = build_dialect("dense-in-pickle", tmp_path / "model")
    write(folder, "5_LayerNorm/config.json", {"dimension": 16})
    weights = {f"norm.{name}": np.ones(16, np.float32) for name in ("weight", "bias")}
    write_safetensors(folder / "5_LayerNorm/model.safetensors", weights)
    places = {"Pooling": "1_Pooling", "Dense": "2_Dense", "LayerNorm": "5_LayerNorm"}
    chain(folder, (OLD + "Transformer", ""), *((OLD + m, places.get(m, "")) for m in modules))
    with pytest.raises(ModelFormatError, match=f"do not fit together.*{says}"):
        load(folder)


def test_a_missing_module_folder_is_named(tiny: Path) -> None:
    shutil.rmtree(tiny / "1_Pooling")
    with pytest.raises(ModelFormatError, match=r"1_Pooling/config.json is missing"):
        load(tiny)
    chain(tiny, (OLD + "Pooling", "1_Pooling"))
    with pytest.raises(ModelFormatError, match=r"the first module of modules.json is Pooling"):
        load(tiny)


def test_a_directory_without_a_model_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"holds no model.*\(it holds: nothing\)"):
        resolve(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelNotFound, match=r"it holds: notes.txt"):
        resolve(tmp_path)
    with pytest.raises(ModelNotFound, match=r"is a file. Give the directory of a model"):
        resolve(tmp_path / "notes.txt")


def test_a_path_that_is_nearly_right_is_told_how(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"model', and file_name='1_Pooling/config.json'"):
        resolve(tiny / "1_Pooling" / "config.json")
    with pytest.raises(ModelNotFound, match=rf"{tiny.name}'.*did you mean that"):
        resolve(tiny.with_name(tiny.name + "x"))
    # An absolute name of a file inside is that file.
    with core.load(tiny, backend="torch", file_name=str(tiny / "model.safetensors")) as model:
        assert model.file_name == "model.safetensors"


@pytest.fixture
def shared(tiny: Path) -> Iterator[Path]:
    """The model where other users reach it."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(shutil.copytree(tiny, Path(place, "model")))


@pytest.mark.parametrize("closed", ["", "1_Pooling"])
def test_a_folder_that_may_not_be_read_is_named(shared: Path, closed: str) -> None:
    (shared / "notes").mkdir()
    with as_another_user(shared / "notes"):  # that nobody asks for does no harm
        assert resolve(shared).architecture.dimension == 32
    with (
        as_another_user(shared / closed),
        pytest.raises(
            ModelError, match=rf"{closed} is a folder that this user may not read.*a\+rx"
        ),
    ):
        resolve(shared).architecture  # noqa: B018


def test_nobody_looks_behind_a_folder_that_may_not_be_entered(shared: Path) -> None:
    with load(shared) as model, as_another_user(shared.parent):
        with pytest.raises(ModelNotFound, match=r"look for a directory .*model': Permission den"):
            resolve(shared)
        with pytest.raises(CoreError, match=r"Cannot write .*new: no permission"):
            core.export(model, backend="onnx", target=shared.parent / "new")


def test_a_long_name_of_a_directory_is_one_that_there_is_or_is_not(tiny: Path) -> None:
    long = tiny.rename(tiny.with_name("n" * 250))
    with load(long) as model:
        model.save(long)
    with pytest.raises(ModelNotFound, match=r"look for a directory '.*name too long"):
        load(long.with_name("n" * 300))


@pytest.mark.parametrize(
    "name", ["a/b/c", "./missing", "/missing", "~/missing-model", "a//b", "-x"]
)
def test_what_can_be_neither_directory_nor_repository(name: str) -> None:
    with pytest.raises(ModelNotFound, match="cannot be a Hub repository"):
        resolve(name)


def test_a_model_directory_full_of_nonsense_stays_within_its_memory(tiny: Path) -> None:
    """One address-space limit for everything a hostile configuration may try at load."""
    (tiny / "config.json").write_text('{"model_type": "bert", "x": [' + "[]," * 1_000_000 + "[]]}")
    code = (
        "import resource, sys; from core.checkpoint.resolve import resolve;"
        "resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000));"
        "resolve(sys.argv[1]).architecture"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny)], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
