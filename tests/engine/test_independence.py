"""A text's embedding does not depend on the texts beside it: every architecture and backend."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import core
from tests import tiny_models
from tests.conftest import Exports, copy_model, one_is_quick
from tests.engine.recorder import Recorder
from tests.tiny_models import SPECS, Spec

pytestmark = pytest.mark.slow  # exports, quantizes or starts processes

BACKENDS = ("torch", "onnx", "openvino")
TEXTS = ["fox", "A quick fox.", "The quick brown fox jumps over the lazy dog. " * 2, "", "shells"]
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
#: Architectures that take padding in, whatever the mask says; not all can be exported.
MIXING = {
    "fnet": Spec(tiny_models._config("FNetConfig", **_SIZES, pad_token_id=0), "wordpiece"),
    "convbert": Spec(
        tiny_models._config("ConvBertConfig", **_SIZES, embedding_size=32, pad_token_id=0),
        "wordpiece",
    ),
    "nystromformer": Spec(
        tiny_models._config(
            "NystromformerConfig", **_SIZES, num_landmarks=4, segment_means_seq_len=4
        ),
        "wordpiece",
    ),
}
MIXING["longrope"] = Spec(
    tiny_models._config(
        "Phi3Config",
        **_SIZES,
        num_key_value_heads=4,
        pad_token_id=0,
        original_max_position_embeddings=8,
        rope_parameters={
            "rope_type": "longrope",
            "short_factor": [1.0] * 4,
            "long_factor": [4.0] * 4,
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 8,
        },
    ),
    "wordpiece",
)
MIXING["bigbird"] = Spec(
    tiny_models._config("BigBirdConfig", **_SIZES, block_size=2, num_random_blocks=1), "wordpiece"
)
#: Few positions, or a first position that is not 0: the probe texts of a verification must fit.
ODD = {
    "few-positions": Spec(
        tiny_models._config("BertConfig", **_SIZES, max_position_embeddings=8),
        "wordpiece",
        max_seq_length=None,
    ),
    "ibert": Spec(
        tiny_models._config("IBertConfig", **_SIZES, max_position_embeddings=40, pad_token_id=1),
        "bytelevel-roberta",
        max_seq_length=None,
    ),
    "luke": Spec(
        tiny_models._config(
            "LukeConfig", **_SIZES, max_position_embeddings=40, pad_token_id=1,
            entity_vocab_size=10, entity_emb_size=16,
        ),
        "bytelevel-roberta",
        max_seq_length=None,
    ),
    "few-ids": Spec(
        lambda vocabulary: tiny_models._config("BertConfig", **_SIZES)(vocabulary // 4),
        "wordpiece",
    ),
    "longformer": Spec(
        tiny_models._config(
            "LongformerConfig",
            **{**_SIZES, "num_hidden_layers": 1},
            attention_window=8,
            pad_token_id=1,
        ),
        "bytelevel-roberta",
    ),
}  # fmt: skip


def padded_on(folder: Path, side: str) -> Path:
    """The model with a tokenizer that pads on this side."""
    place = folder / "tokenizer_config.json"
    settings = json.loads(place.read_text())
    place.unlink()  # it may be a link to a shared one
    place.write_text(json.dumps({**settings, "padding_side": side}))
    return folder


def check_independent(model: core.EmbeddingModel) -> None:
    alone = np.stack([model.encode(text) for text in TEXTS])
    together = model.encode(TEXTS)
    scale = max(1.0, float(np.abs(alone).max()))
    np.testing.assert_allclose(together, alone, atol=1e-5 * scale)
    for row, own in zip(
        model.encode(TEXTS, output_value="token_embeddings"),
        [model.encode(text, output_value="token_embeddings") for text in TEXTS],
        strict=True,
    ):
        np.testing.assert_allclose(row, own, atol=1e-5 * max(1.0, float(np.abs(own).max())))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", one_is_quick("bert-mean", sorted(SPECS)))
def test_no_text_depends_on_its_batch(
    exports: Exports, tmp_path: Path, name: str, backend: str
) -> None:
    for side in ("left", "right"):
        folder = padded_on(copy_model(exports(name, backend), tmp_path / side), side)
        with core.load(folder, backend=backend, device="cpu") as model:
            assert model.tokenizer.padding_side == side
            check_independent(model)


@pytest.fixture(scope="module")
def mixing(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a model in `MIXING` or `ODD`. Read only."""
    root = tmp_path_factory.mktemp("mixing")

    def make(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(SPECS, name, {**MIXING, **ODD}[name])
                tiny_models.build(name, folder)
        return folder

    return make


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", sorted(MIXING))
def test_architectures_that_mix_padding_in_run_equal_lengths_together(
    mixing: Callable[[str], Path], tmp_path: Path, name: str, side: str
) -> None:
    folder = padded_on(copy_model(mixing(name), tmp_path / "model"), side)
    with core.load(folder, backend="torch", device="cpu") as model:
        check_independent(model)
        recorder = Recorder(model)
        recorder.equal_lengths = True
        model.encode(["a fox", "a dog", "a cat", "the lazy dog sleeps"])
        assert all(batch.attention_mask.all() for batch in recorder.batches)
        assert max(batch.rows for batch in recorder.batches) == 3


@pytest.mark.parametrize("name", ["bigbird", "longrope"])
def test_a_text_does_not_depend_on_those_before_it(
    mixing: Callable[[str], Path], name: str
) -> None:
    with core.load(mixing(name), backend="torch", device="cpu") as model:
        first = model.encode(TEXTS[2])
        model.encode(TEXTS[0])
        np.testing.assert_allclose(model.encode(TEXTS[2]), first, atol=1e-5)


def test_attention_that_is_computed_whole_is_told(
    mixing: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    core.load(mixing("bigbird"), backend="torch", device="cpu").close()
    assert "block_sparse attention, which transformers computes for texts of more" in caplog.text


def test_causal_attention_of_an_encoder_does_not_depend_on_padding(
    tiny_model: Callable[[str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """transformers follows `is_causal` where no text of a batch is padded."""
    folder = copy_model(tiny_model("bert-mean"), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    with core.load(folder, backend="torch", device="cpu") as model:
        expected = model.encode(TEXTS)
    (folder / "config.json").write_text(json.dumps({**config, "is_causal": True}))
    with core.load(folder, backend="torch", device="cpu") as model:
        alone = np.stack([model.encode(text) for text in TEXTS])
    np.testing.assert_allclose(alone, expected, atol=1e-5)
    assert "config.json asks for causal attention" in caplog.text


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_exported_graphs_that_mix_padding_in_do_not_either(
    mixing: Callable[[str], Path], tmp_path: Path, backend: str
) -> None:
    folder = copy_model(mixing("convbert"), tmp_path / "model")
    with core.load(folder, backend="torch", device="cpu") as model:
        expected = model.encode(TEXTS)
    core.export(folder, backend=backend)
    with core.load(folder, backend=backend, device="cpu") as model:
        check_independent(model)
        np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-4)


@pytest.mark.parametrize("workers", [1, 2])
def test_equal_lengths_keep_the_callers_order(mixing: Callable[[str], Path], workers: int) -> None:
    texts = [" ".join(["fox"] * (1 + i % 7)) + f" {i % 5}" for i in range(60)]
    with core.load(mixing("fnet"), backend="torch", device="cpu") as model:
        alone = np.stack([model.encode(text) for text in texts])
        together: Any = model.encode(texts, workers=workers, batch_tokens=64)
    np.testing.assert_allclose(together, alone, atol=1e-4)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize("name", one_is_quick("few-positions", ["few-positions", "ibert", "luke"]))
def test_a_model_with_few_positions_is_exported(
    mixing: Callable[[str], Path], tmp_path: Path, name: str, backend: str
) -> None:
    folder = copy_model(mixing(name), tmp_path / "model")
    core.export(folder, backend=backend)
    with core.load(folder, backend=backend, device="cpu") as model:
        check_independent(model)
        assert model.encode(["fox " * 99]).shape == (1, 32)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_model_with_fewer_ids_than_its_tokenizer_is_exported(
    mixing: Callable[[str], Path], tmp_path: Path, backend: str
) -> None:
    """Probe texts with tokens that it has no embedding for prove nothing."""
    folder = copy_model(mixing("few-ids"), tmp_path / "model")
    core.export(folder, backend=backend)
    with core.load(folder, backend=backend, device="cpu") as model:
        assert np.isfinite(model.encode(["", "a b c"])).all()
        with pytest.raises(core.ModelFormatError, match="resized"):
            model.encode(["the quick brown fox"])


def test_an_export_that_fails_on_other_lengths_says_so(
    mixing: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = copy_model(mixing("longformer"), tmp_path / "model")
    with pytest.raises(core.VerificationError, match=r"fails on 5 texts .*use the source"):
        core.export(folder, backend="onnx")
    assert not list(folder.glob("onnx/*"))


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_graph_without_a_mask_is_run_where_the_architecture_needs_none(
    mixing: Callable[[str], Path], tmp_path: Path, backend: str
) -> None:
    """As others export FNet: input ids alone, and every token takes in all of its row."""
    folder = copy_model(mixing("fnet"), tmp_path / "model")
    table = np.random.default_rng(0).normal(size=(400, 32)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("ReduceMean", ["embedded"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Add", ["embedded", "mean"], ["last_hidden_state"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mixing",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info("last_hidden_state", 1, ["batch", "tokens", 32])],
        [numpy_helper.from_array(table, "table")],
    )
    (folder / "onnx").mkdir()
    opset = helper.make_opsetid("", 17)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=8)
    onnx.save(made, folder / "onnx/model.onnx")
    with core.load(folder, backend=backend, file_name="onnx/model.onnx") as model:
        check_independent(model)
