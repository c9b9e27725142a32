"""Ids and positions a model has no embedding for, and what a failing batch is blamed on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import core
from core.errors import ModelFormatError, OptionError, PluginError
from core.files.weights import write_safetensors
from tests.conftest import Exports, copy_model
from tests.engine.recorder import Recorder

BACKENDS = ("torch", "onnx", "openvino")


def add_token(folder: Path, token: str) -> None:
    """A token that the model was never resized for."""
    place = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(place))
    tokenizer.add_tokens([token])
    place.unlink()
    tokenizer.save(str(place))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_token_the_model_has_no_embedding_for_is_named(
    exports: Exports, tmp_path: Path, backend: str
) -> None:
    folder = copy_model(exports("bert-mean", backend), tmp_path / "model")
    add_token(folder, "<new>")
    with core.load(folder, backend=backend, device="cpu") as model:
        with pytest.raises(
            ModelFormatError, match=r"position 2 has the token '<new>'.*0 to"
        ) as hit:
            model.encode(["a fox", "a dog", "a <new> fox", "a fox"])
        assert "memory" not in str(hit.value)
        assert model.encode(["a fox"]).shape == (1, 32)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_told_of(
    tiny_model: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copy_model(tiny_model("bert-mean"), tmp_path / "model")
    add_token(folder, "<new>")
    core.load(folder, backend="torch").close()
    assert "knows 294 tokens, and the model has embeddings for 293" in caplog.text


def test_a_tokenizer_no_text_of_which_can_be_embedded_is_refused(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_model(tiny_model("bert-mean"), tmp_path / "model")
    place = folder / "tokenizer.json"
    content = json.loads(place.read_text())
    content["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [900]
    place.unlink()
    place.write_text(json.dumps(content))
    with pytest.raises(ModelFormatError, match=r"id 900, around every text.*restore the tokenizer"):
        core.load(folder, backend="torch")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_padding_token_without_an_embedding_does_no_harm(
    exports: Exports, tmp_path: Path, backend: str
) -> None:
    """GPT-2 is often given one that the model is never resized for."""
    folder = copy_model(exports("bert-mean", backend), tmp_path / "model")
    with core.load(folder, backend=backend, device="cpu") as model:
        expected = model.encode(["a fox", "a somewhat longer text"])
    add_token(folder, "<padding>")
    place = folder / "tokenizer_config.json"
    settings = json.loads(place.read_text())
    place.unlink()
    place.write_text(json.dumps({**settings, "pad_token": "<padding>"}))
    with core.load(folder, backend=backend, device="cpu") as model:
        actual = model.encode(["a fox", "a somewhat longer text"])
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_graph_knows_more_ids_than_a_stale_configuration(
    exports: Exports, tmp_path: Path, backend: str
) -> None:
    folder = copy_model(exports("bert-mean", backend), tmp_path / "model")
    with core.load(folder, backend=backend, device="cpu") as model:
        expected = model.encode(["a fox"])
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 5}))
    with core.load(folder, backend=backend, device="cpu") as model:
        np.testing.assert_array_equal(model.encode(["a fox"]), expected)


def test_a_static_table_is_not_read_past_its_end(tmp_path: Path, exports: Exports) -> None:
    kind = "sentence_transformers.models.StaticEmbedding"
    (tmp_path / "modules.json").write_text(
        json.dumps([{"idx": 0, "name": "0", "path": "", "type": kind}])
    )
    tokenizer = exports("bert-mean", "torch") / "tokenizer.json"
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    write_safetensors(
        tmp_path / "model.safetensors", {"embedding.weight": np.eye(20, 8, dtype="f")}
    )
    with pytest.raises(ModelFormatError, match=r"\b20\b"):
        core.load(tmp_path, backend="torch").encode(["the quick brown fox"])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "limit"), [("bert-mean", 512), ("roberta", 512)])
def test_a_text_longer_than_the_positions_is_refused(
    exports: Exports, name: str, limit: int, backend: str
) -> None:
    with core.load(exports(name, backend), backend=backend, device="cpu") as model:
        try:
            model.max_seq_length = 600
        except OptionError:
            return  # refused even earlier
        long = "fox " * 700
        with pytest.raises(
            OptionError, match=rf"position 1 has 600 tokens.*positions for {limit}.*max_seq_length"
        ):
            model.encode(["a fox", long])
        model.max_seq_length = limit
        assert model.encode([long]).shape == (1, 32)


@pytest.mark.parametrize(
    ("error", "of_memory"),
    [
        (IndexError("index out of range in self"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x16 and 32x8)"), False),
        (RuntimeError("Non-zero status code: indices element out of data bounds, idx=900"), False),
        (MemoryError(), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("Failed to allocate memory for requested buffer of size 1024"), True),
        (RuntimeError("std::bad_alloc"), True),
    ],
)
def test_memory_is_blamed_only_where_it_may_be_the_cause(
    tiny_model: Callable[[str], Path], error: Exception, of_memory: bool
) -> None:
    with core.load(tiny_model("bert-mean"), backend="torch", device="cpu") as model:

        def fail(batch: core.TokenBatch) -> bool:
            raise error

        Recorder(model, fail)
        with pytest.raises(PluginError, match="failed on the batch of 1 texts") as caught:
            model.encode(["a fox"])
    assert ("batch_tokens" in str(caught.value)) is of_memory
