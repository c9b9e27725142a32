"""Configuration that names other files: none is read, and the rest keeps its meaning."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import core
from core.errors import ModelError, ModelFormatError
from core.sentence_transformers import SentenceTransformer
from tests.checkpoint.dialects import read, write

TEXTS = ["one text", "another, longer text about vectors"]
SETTINGS = "sentence_bert_config.json"


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("bert-cls"), folder)
    return folder


@pytest.fixture
def other_config(tiny: Path) -> Path:
    """A configuration beside the model that would change its embeddings."""
    place = tiny.parent / "other.json"
    place.write_text(json.dumps({**read(tiny, "config.json"), "hidden_act": "tanh"}))
    return place


@pytest.fixture
def other_weights(tiny: Path) -> Path:
    place = tiny.parent / "other.safetensors"
    weights = load_file(tiny / "model.safetensors")
    save_file({name: array + 1 for name, array in weights.items()}, place, {"format": "pt"})
    return place


def embed(folder: Path, **arguments: Any) -> np.ndarray:
    with core.load(folder, backend="torch", device="cpu", **arguments) as model:
        result: np.ndarray = model.encode(TEXTS)
        return result


def store(folder: Path, **settings: Any) -> None:
    write(folder, SETTINGS, {**read(folder, SETTINGS), **settings})


def configure(folder: Path, **settings: Any) -> None:
    write(folder, "config.json", {**read(folder, "config.json"), **settings})


@pytest.mark.parametrize("key", ["config_args", "config_kwargs"])
@pytest.mark.parametrize(
    "name",
    ["_configuration_file", "gguf_file", "pretrained_model_name_or_path", "subfolder", "cache_dir"],
)
def test_stored_arguments_choose_no_other_configuration(
    tiny: Path, other_config: Path, key: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = embed(tiny)
    caplog.clear()
    store(tiny, **{key: {name: str(other_config), "num_labels": 3}})
    np.testing.assert_array_equal(embed(tiny), expected)
    assert sum(f"holds {name}, which" in message for message in caplog.messages) == 1


@pytest.mark.parametrize("name", ["_from_auto", "_commit_hash", "name_or_path", "auto_map"])
def test_stored_arguments_that_libraries_keep_for_themselves_are_left_out(
    tiny: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = embed(tiny)
    for key in ("config_args", "model_args", "tokenizer_args"):
        store(tiny, **{key: {name: "x"}})
    np.testing.assert_array_equal(embed(tiny), expected)
    assert sum(f"holds {name}, which" in message for message in caplog.messages) == 3


def test_stored_settings_of_the_configuration_go_through(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = embed(tiny)
    configure(tiny, hidden_act="tanh")
    changed = embed(tiny)
    assert np.abs(changed - expected).max() > 1e-3
    store(tiny, config_args={"hidden_act": "gelu", "output_hidden_states": True})
    np.testing.assert_array_equal(embed(tiny), expected)
    assert not caplog.messages
    np.testing.assert_array_equal(embed(tiny, config_kwargs={"hidden_act": "tanh"}), changed)


def test_of_stored_settings_under_both_names_the_older_count(tiny: Path) -> None:
    """As in sentence-transformers."""
    expected = embed(tiny)
    store(tiny, config_args={}, config_kwargs={"hidden_act": "tanh"})
    store(tiny, tokenizer_args={"do_lower_case": True}, processor_kwargs={"model_max_length": 2})
    np.testing.assert_array_equal(embed(tiny), expected)


def test_stored_settings_that_the_configuration_lacks_are_named(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = embed(tiny)
    store(tiny, config_args={"hidden_akt": "tanh", "to_dict": 1})
    np.testing.assert_array_equal(embed(tiny), expected)
    assert sum("holds hidden_akt, to_dict, which" in message for message in caplog.messages) == 1


def test_stored_options_of_loading_are_taken_or_named(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = embed(tiny)
    options = {"attn_implementation": "eager", "add_pooling_layer": False}
    store(tiny, model_args={**options, "trust_remote_code": True})
    np.testing.assert_allclose(embed(tiny), expected, atol=1e-5)
    assert not caplog.messages
    store(tiny, model_args={**options, "default_task": "x"})
    embed(tiny)
    assert sum("holds default_task, which core does not" in m for m in caplog.messages) == 1


@pytest.mark.parametrize("outside", [False, True])
def test_a_list_of_configuration_files_chooses_none(
    tiny: Path, other_config: Path, outside: bool
) -> None:
    expected = embed(tiny)
    name = "config.4.0.0.json"
    shutil.copyfile(other_config, tiny / name)
    shutil.copyfile(other_config, tiny.parent / name)
    configure(tiny, configuration_files=["../" * outside + name])
    np.testing.assert_array_equal(embed(tiny), expected)
    model = SentenceTransformer(str(tiny), backend="torch", device="cpu")
    assert model.config.hidden_act == "gelu"


@pytest.mark.parametrize("how", ["inside", "link", "index", "missing", "list"])
def test_config_json_does_not_choose_the_weights(
    tiny: Path, other_weights: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = embed(tiny)
    named: Any = "other.safetensors"
    if how == "inside":
        shutil.copyfile(other_weights, tiny / named)
    elif how == "link":
        (tiny / named).symlink_to(other_weights)
    elif how == "index":
        named = "other.safetensors.index.json"
        shards = dict.fromkeys(load_file(other_weights), "../other.safetensors")
        write(tiny, named, {"metadata": {}, "weight_map": shards})
    elif how == "list":
        named = ["other.safetensors"]
    configure(tiny, transformers_weights=named)
    with core.load(tiny, backend="torch", device="cpu") as model:
        np.testing.assert_array_equal(model.encode(TEXTS), expected)
        assert model.weight_files == ("model.safetensors",)
    says = f"names the weights {named!r}, and model.safetensors is loaded"
    assert sum(says in message for message in caplog.messages) == 1


def test_weights_that_config_json_names_load_where_they_are_asked_for(
    tiny: Path, other_weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copyfile(other_weights, tiny / "other.safetensors")
    configure(tiny, transformers_weights="other.safetensors")
    other = embed(tiny, file_name="other.safetensors")
    assert not caplog.messages
    assert np.abs(other - embed(tiny)).max() > 1e-3
    (tiny / "model.safetensors").unlink()
    (tiny / "other.safetensors").rename(tiny / "model.safetensors")
    np.testing.assert_array_equal(embed(tiny), other)


def shards(folder: Path, weights: Path, name: str = "model-00001-of-00001.safetensors") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(weights, folder / name)
    index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(weights), name)}
    write(folder, "model.safetensors.index.json", index)


def test_the_weights_that_are_loaded_are_those_that_are_reported(
    tiny: Path, other_weights: Path
) -> None:
    """Beside an index transformers would take the whole file, and in a folder that above it."""
    expected = embed(tiny)
    shards(tiny, other_weights)
    (tiny / "sub").mkdir()
    shutil.copyfile(other_weights, tiny / "sub/model.safetensors")
    for name in ("model.safetensors.index.json", "sub/model.safetensors"):
        with core.load(tiny, backend="torch", device="cpu", file_name=name) as model:
            assert model.weight_files[0] == name
            assert np.abs(model.encode(TEXTS) - expected).max() > 1e-3
    np.testing.assert_array_equal(embed(tiny), expected)


def test_shards_outside_the_model_are_refused(tiny: Path, other_weights: Path) -> None:
    (tiny / "model.safetensors").unlink()
    shards(tiny, other_weights)
    index = read(tiny, "model.safetensors.index.json")
    for shard in ("../other.safetensors", str(other_weights)):
        index["weight_map"] = dict.fromkeys(index["weight_map"], shard)
        write(tiny, "model.safetensors.index.json", index)
        with pytest.raises(ModelError, match=r"which are missing|outside the model's directory"):
            embed(tiny)
    name = "model-00001-of-00001.safetensors"
    (tiny / name).unlink()
    (tiny / name).symlink_to(other_weights)
    index["weight_map"] = dict.fromkeys(index["weight_map"], name)
    write(tiny, "model.safetensors.index.json", index)
    with pytest.raises(ModelFormatError, match="outside the model's directory"):
        embed(tiny)


def test_an_adapter_s_configuration_beside_whole_weights_is_not_followed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With peft installed transformers would load the base model that it names, from anywhere."""
    import transformers.modeling_utils

    seen = []
    real = transformers.modeling_utils.maybe_load_adapters

    def spy(name: Any, *arguments: Any, **named: Any) -> Any:
        seen.append(sorted(path.name for path in Path(name).iterdir()))
        return real(name, *arguments, **named)

    monkeypatch.setattr(transformers.modeling_utils, "maybe_load_adapters", spy)
    expected = embed(tiny)
    write(tiny, "adapter_config.json", {"base_model_name_or_path": str(tiny.parent)})
    np.testing.assert_array_equal(embed(tiny), expected)
    assert seen[-1] == ["model.safetensors"]


def test_an_adapter_beside_whole_weights_that_is_not_used_is_told(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """sentence-transformers adds it to the weights where peft is installed."""
    write(tiny, "adapter_config.json", {"base_model_name_or_path": "some/base"})
    embed(tiny)
    assert "adapter" not in caplog.text
    save_file({"x": np.zeros(1, np.float32)}, tiny / "adapter_model.safetensors")
    embed(tiny)
    assert "adapter_model.safetensors is a PEFT adapter beside whole weights" in caplog.text
    assert "merge_and_unload" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_configuration_may_be_in_any_encoding_of_json(tiny: Path, encoding: str) -> None:
    """Editors and shells of Windows write it with a mark at its start, or in UTF-16."""
    with core.load(tiny, backend="torch") as model:
        before = model.encode(TEXTS)
    text = (tiny / "config.json").read_text(encoding="utf-8")
    (tiny / "config.json").write_text(text, encoding=encoding)
    again = SentenceTransformer(str(tiny), device="cpu")
    np.testing.assert_array_equal(again.encode(TEXTS), before)
    onnx = SentenceTransformer(str(tiny), backend="onnx")
    np.testing.assert_allclose(onnx.encode(TEXTS), before, atol=1e-5)
    assert onnx.config.hidden_size == before.shape[1]
