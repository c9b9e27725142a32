"""The torch backend: load, encode, export, optimize, quantize, save."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import core
from core.engine.similarity import similarity_pairwise
from core.machine.processor import processor_flags, processor_vendor
from tests.conftest import CACHE, copy_model, one_is_quick
from tests.tiny_models import SPECS
from torch_backend.kernels import even_attention, row_counts
from torch_backend.kernels.threads import single_threaded

TEXTS = ["", "A fox.", "The quick brown fox jumps over the lazy dog. " * 9, "机器学习 🙂"]


def load(path: Path, **arguments: Any) -> core.EmbeddingModel:
    return core.load(path, backend="torch", device="cpu", **arguments)


def min_cosine(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    return float(similarity_pairwise(a, b).min())


@pytest.fixture
def copy(tiny_model: Callable[[str], Path], tmp_path: Path) -> Path:
    return copy_model(tiny_model("bert-cls"), tmp_path / "model")


def test_the_real_model_on_real_sentences(minilm_torch: core.EmbeddingModel) -> None:
    sentences = [
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    ]
    embeddings = minilm_torch.encode(sentences)
    assert embeddings.shape == (3, 384)
    # The figures published in the model's own documentation.
    expected = [[1.0, 0.6660, 0.1046], [0.6660, 1.0, 0.1411], [0.1046, 0.1411, 1.0]]
    np.testing.assert_allclose(minilm_torch.similarity(embeddings, embeddings), expected, atol=1e-3)
    assert minilm_torch.max_seq_length == 256
    assert minilm_torch.dtype == "float32"
    assert minilm_torch.device == "cpu"


@pytest.mark.parametrize("name", one_is_quick("bert-mean", sorted(SPECS)))
def test_every_architecture_is_independent_of_its_batch(
    tiny_model: Callable[[str], Path], name: str
) -> None:
    model = load(tiny_model(name))
    together = model.encode(TEXTS)
    alone = np.stack([model.encode(text) for text in TEXTS])
    assert together.shape == (len(TEXTS), model.dimension)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(np.unique(together.round(4), axis=0)) == len(TEXTS)


@pytest.mark.parametrize("name", ["bert-mean", "gpt2"])
def test_token_types_are_given_to_models_that_have_them(
    tiny_model: Callable[[str], Path], name: str
) -> None:
    # GPT-2 takes them as well, and would add the word with that number to every token.
    from transformers import AutoModel

    plain = AutoModel.from_pretrained(tiny_model(name)).eval()
    with load(tiny_model(name)) as model, torch.inference_mode():
        tokens = {n: torch.from_numpy(a) for n, a in model.tokenize(["A fox."]).items()}
        inputs = {n: tokens[n] for n in ("input_ids", "attention_mask")}
        expected = plain(**inputs).last_hidden_state.mean(dim=1).numpy()
        np.testing.assert_allclose(model.encode(["A fox."]), expected, atol=1e-5)


def test_the_device_is_reported_and_chosen(tiny_model: Callable[[str], Path]) -> None:
    model = core.load(tiny_model("bert-mean"), backend="torch")
    if torch.cuda.is_available():
        assert model.device == "cuda"
    elif torch.backends.mps.is_available():
        assert model.device == "mps"
    else:
        assert model.device == "cpu"


def test_best_device_first(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_backend import device

    # No GPU here: what a machine that has them would report, and nothing else, is faked.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert str(device.choose_device(None)) == "cuda"
    assert str(device.choose_device("cuda:1")) == "cuda:1"
    with pytest.raises(core.OptionError, match="there are 2 cuda devices"):
        device.choose_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert str(device.choose_device(None)) == "mps"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
    assert str(device.choose_device(None)) == "xpu"
    with pytest.raises(core.OptionError, match="no CUDA GPU"):
        device.choose_device("cuda")


@pytest.mark.slow
@pytest.mark.parametrize("spelling", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", ["float16", "bfloat16", torch.bfloat16, "float32"])
def test_dtypes_at_load(tiny_model: Callable[[str], Path], spelling: str, value: Any) -> None:
    exact = load(tiny_model("bert-cls"))
    model = load(tiny_model("bert-cls"), model_kwargs={spelling: value})
    assert model.dtype == str(value).removeprefix("torch.")
    embeddings = model.encode(TEXTS)
    assert embeddings.dtype == np.float32
    assert min_cosine(embeddings, exact.encode(TEXTS)) > 0.995


NO_DTYPES: tuple[Any, ...] = (
    "float31",
    "Tensor",
    "nn",
    "",
    "/etc/passwd",
    16,
    True,
    ["float32"],
    [[]],
)


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("value", NO_DTYPES, ids=repr)
def test_a_dtype_in_config_json_that_is_none(copy: Path, key: str, value: Any) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, key: value}))
    message = rf"model: config\.json: {key} is {re.escape(repr(value))}; .*dtype.*'float32'"
    with pytest.raises(core.ModelFormatError, match=message):
        load(copy)


@pytest.mark.parametrize("value", NO_DTYPES, ids=repr)
def test_a_dtype_among_the_authors_arguments_that_is_none(copy: Path, value: Any) -> None:
    place = copy / "sentence_bert_config.json"
    stored = json.loads(place.read_text())
    place.write_text(json.dumps({**stored, "model_args": {"dtype": value}}))
    with pytest.raises(
        core.ModelFormatError, match=r"model: model_args in sentence_bert_config\.json: dtype must"
    ):
        load(copy)
    assert load(copy, model_kwargs={"dtype": "float32"}).dtype == "float32"


@pytest.mark.parametrize("value", [5, ["bert"], {"a": 1}], ids=repr)
def test_a_model_type_that_is_no_text(copy: Path, value: Any) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": value}))
    with pytest.raises(core.ModelFormatError, match=r"config\.json: model_type is .*text"):
        load(copy)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_attention_implementations_agree(tiny_model: Callable[[str], Path], attention: str) -> None:
    model = load(tiny_model("bert-cls"), model_kwargs={"attn_implementation": attention})
    expected = load(tiny_model("bert-cls")).encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), expected, atol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="it is there")
def test_an_attention_that_is_not_installed_is_the_callers(
    tiny_model: Callable[[str], Path],
) -> None:
    advice = r"FlashAttention2 .* model_kwargs=\{'attn_implementation': 'sdpa'\}\.$"
    with pytest.raises(core.OptionError, match=advice):
        load(tiny_model("bert-cls"), model_kwargs={"attn_implementation": "flash_attention_2"})


@pytest.fixture
def copied_weights(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The weights that oneDNN is given a copy of."""
    copied: list[torch.Tensor] = []
    reorder = torch.ops.mkldnn._reorder_linear_weight

    def noted(weight: torch.Tensor, *rest: Any) -> Any:
        copied.append(weight)
        return reorder(weight, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", noted)
    return copied


def test_shared_weights_are_those_of_the_mapped_file(
    tiny_model: Callable[[str], Path], copied_weights: list[torch.Tensor], blocked_rows: str
) -> None:
    folder = tiny_model("bert-cls")
    model = load(folder, model_kwargs={"share_weights": True})
    result = model.encode(TEXTS)
    assert not copied_weights
    np.testing.assert_allclose(result, load(folder).encode(TEXTS), atol=1e-5)
    assert copied_weights  # of few rows, unless told otherwise
    with pytest.raises(core.OptionError, match="share_weights must be True or False, not 'yes'"):
        load(folder, model_kwargs={"share_weights": "yes"})


@pytest.fixture(params=["any number of rows", "few rows"])
def blocked_rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Processors whose weights are blocked for batches of any size, and for small ones only."""
    vendor = "GenuineIntel" if request.param == "few rows" else "AuthenticAMD"
    text = f"processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: avx2 avx512f\n"
    is_file, read_text = Path.is_file, Path.read_text
    cpuinfo = Path("/proc/cpuinfo")

    def read(path: Path, *arguments: Any, **options: Any) -> str:
        return text if path == cpuinfo else read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "is_file", lambda path: path == cpuinfo or is_file(path))
    monkeypatch.setattr(Path, "read_text", read)
    for cached in (processor_vendor, processor_flags):
        cached.cache_clear()
    yield str(request.param)
    for cached in (processor_vendor, processor_flags):
        cached.cache_clear()


def test_batches_of_many_tokens_copy_no_weights(
    tiny_kind: Callable[[str], Path], copied_weights: list[torch.Tensor], blocked_rows: str
) -> None:
    """Those of BERT-base and of its vocabulary take 434 MB."""
    texts = [f"a text about foxes, the one with number {i}" for i in range(30)]
    with core.load_sparse(tiny_kind("splade"), backend="torch", device="cpu") as model:
        model.encode(texts, workers=1)
        assert not copied_weights
        model.encode(texts[:2])
    assert copied_weights


@pytest.mark.slow
def test_blocked_weights_change_no_result(
    tiny_model: Callable[[str], Path], blocked_rows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        plain = load(tiny_model("bert-cls"))
    blocked = load(tiny_model("bert-cls"))
    run = torch.ops.mkldnn._linear_pointwise
    rows: list[int] = []

    def counted(x: torch.Tensor, *rest: Any) -> Any:
        rows.append(len(x))
        return run(x, *rest)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    for count in (1, 3, 30):
        texts = [f"{'foxes ' * (i % 11)}and number {i}" for i in range(count)]
        for budget in (64, 4_096):
            np.testing.assert_allclose(
                blocked.encode(texts, batch_tokens=budget, workers=1),
                plain.encode(texts, batch_tokens=budget, workers=1),
                atol=1e-5,
            )
    assert rows
    assert all(count % 8 == 0 for count in rows)
    assert (max(rows) > 64) == (blocked_rows == "any number of rows")


def test_rows_are_filled_up_to_few_counts() -> None:
    """oneDNN keeps a kernel for each."""
    filled = {rows: row_counts.round_rows(rows) for rows in range(1, 8_193)}
    assert all(rows <= count <= max(rows + 7, rows * 1.125) for rows, count in filled.items())
    assert len(set(filled.values())) == 64
    rows = torch.rand(13, 4)
    padded = row_counts.fill_rows(rows)
    assert padded.shape == (16, 4)
    assert torch.equal(padded[:13], rows)
    assert not padded[13:].any()
    assert row_counts.fill_rows(padded) is padded


def test_blocked_weights_follow_the_weights(
    tiny_model: Callable[[str], Path], blocked_rows: str
) -> None:
    """They are a copy, which must not grow stale."""
    many = ["a fox"] + [f"a longer text about foxes, the one with number {i}" for i in range(30)]
    with load(tiny_model("bert-cls")) as model:
        before = model.encode(many[0])
        np.testing.assert_allclose(before, model.encode(many, batch_tokens=4_096)[0], atol=1e-6)
        with torch.no_grad():
            for name, parameter in model.runtime.module.named_parameters():
                if name.endswith("dense.weight"):
                    parameter.mul_(0.5)
        after = model.encode(many[0])
        np.testing.assert_allclose(after, model.encode(many, batch_tokens=4_096)[0], atol=1e-6)
        assert np.abs(after - before).max() > 1e-3


def test_the_module_can_be_copied_and_converted(tiny_model: Callable[[str], Path]) -> None:
    with load(tiny_model("bert-cls")) as model:
        expected = model.encode("a fox")
        module = deepcopy(model.runtime.module).double()
        inputs = {name: torch.from_numpy(v) for name, v in model.tokenize("a fox").items()}
        with torch.inference_mode():
            hidden = module(**inputs).last_hidden_state
        assert hidden.dtype is torch.float64
        first = hidden[0, 0].numpy()
        np.testing.assert_allclose(first / np.linalg.norm(first), expected, atol=1e-5)
        np.testing.assert_array_equal(model.encode("a fox"), expected)


def test_closing_while_another_thread_encodes(tiny_model: Callable[[str], Path]) -> None:
    """A batch that comes after `close` says what happened, whatever it asks for."""
    model = load(tiny_model("bert-cls"))
    ids = model.tokenize("a fox")["input_ids"]
    batch = core.TokenBatch(ids, np.ones_like(ids), np.zeros_like(ids))
    runtime = model.runtime
    model.close()
    for encode in (runtime.sentence_embeddings, runtime.token_embeddings):
        with pytest.raises(core.UnsupportedOperation, match=r"is closed\. Load it again"):
            encode(batch)


def test_the_module_is_open_to_other_backends(tiny_model: Callable[[str], Path]) -> None:
    runtime = load(tiny_model("bert-cls")).runtime
    assert isinstance(runtime.module, torch.nn.Module)
    assert runtime.input_names == ("input_ids", "attention_mask", "token_type_ids")
    assert not runtime.module.training
    ids = torch.ones((1, 3), dtype=torch.long)
    with torch.inference_mode():
        output = runtime.module(input_ids=ids, attention_mask=ids)
    assert output.last_hidden_state.shape == (1, 3, 32)


@pytest.mark.parametrize("level", one_is_quick("fp16", ["bf16"]))
def test_half_precision_files(copy: Path, level: str) -> None:
    model = load(copy)
    artifact = core.optimize(model, level)
    assert artifact.path == copy / f"model_{level}.safetensors"
    assert artifact.verification is not None
    assert artifact.verification.mean_cosine > 0.999
    sidecar = json.loads((copy / f"model_{level}.safetensors.json").read_text())
    assert sidecar["precision"] == level
    assert sidecar["source"]["sha256"]["model.safetensors"]
    assert artifact.path.stat().st_size < 0.6 * (copy / "model.safetensors").stat().st_size
    half = load(copy, file_name=artifact.file_name)
    assert half.dtype == {"fp16": "float16", "bf16": "bfloat16"}[level]
    assert min_cosine(half.encode(TEXTS), model.encode(TEXTS)) > 0.995
    # The default load still takes the model's own weights.
    assert load(copy).file_name == "model.safetensors"


def test_attention_of_int8_is_the_same_to_the_last_bit_however_wide_a_batch_is() -> None:
    """Where a product over many keys is split depends on their number."""
    attend: Any = functools.partial(even_attention._attend, ALL_ATTENTION_FUNCTIONS)
    layer: Any = torch.nn.Module()
    layer.is_causal = False
    layer.num_key_value_groups = 1
    generator = torch.Generator().manual_seed(0)
    for tokens in range(8, 513, 72):
        row: Any = [torch.randn(1, 4, tokens, 32, generator=generator) for _ in range(3)]
        alone, _ = attend(layer, *row, None)
        for width in range(tokens, 513, 40):
            query, key, value = (
                torch.nn.functional.pad(x, (0, 0, 0, width - tokens), value=0.5) for x in row
            )
            mask = torch.zeros(1, 1, width, width, dtype=torch.bool)
            mask[..., :tokens] = True
            result, _ = attend(layer, query, key, value, mask)
            assert torch.equal(result[:, :tokens], alone), (tokens, width)
        expected = torch.nn.functional.scaled_dot_product_attention(*row).transpose(1, 2)
        torch.testing.assert_close(alone, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_that_is_stored_in_half_precision_is_quantized(
    tiny_model: Callable[[str], Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    folder = copy_model(tiny_model("bert-mean"), tmp_path / "model")
    (folder / "model.safetensors").unlink()  # it is a link
    (folder / "config.json").unlink()
    made = transformers.AutoModel.from_pretrained(tiny_model("bert-mean"), dtype=dtype)
    made.save_pretrained(folder)
    with load(folder) as model:
        expected = model.encode(TEXTS)
        artifact = core.quantize(model, num_samples=16)
    with artifact.load(device="cpu") as int8:
        assert similarity_pairwise(int8.encode(TEXTS), expected, "cosine").min() > 0.99


@pytest.mark.slow
def test_int8_is_close_and_independent_of_the_batch(minilm_copy: Path) -> None:
    model = load(minilm_copy)
    artifact = core.quantize(model, num_samples=64)
    assert artifact.path == minilm_copy / "model_qint8.safetensors"
    assert artifact.precision == "int8"
    assert artifact.verification is not None
    assert artifact.verification.mean_cosine > 0.99
    assert artifact.verification.min_cosine > 0.97
    with artifact.load(device="cpu") as int8:
        assert int8.dtype == "int8"
        together = int8.encode(TEXTS)
        alone = np.stack([int8.encode(text) for text in TEXTS])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        with pytest.raises(core.UnsupportedOperation, match="quantized already"):
            core.quantize(int8)
    with pytest.raises(core.OptionError, match="int8"):
        load(minilm_copy, file_name=artifact.file_name, model_kwargs={"dtype": "float16"})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t, n: t.update({"embeddings.LayerNorm.weight_scale": torch.ones(9)}), "LayerNorm"),
        (lambda t, n: t.pop(f"{n}.weight_scale"), "has {}.weight as torch.int8"),
        (lambda t, n: t.pop(f"{n}.bias"), "lacks 1 of the weights .*{}.bias"),
        (lambda t, n: t.update({f"{n}.weight": t[f"{n}.weight"].int()}), "as torch.int32"),
        (lambda t, n: t.update({f"{n}.weight": t[f"{n}.weight"].float()}), "as torch.float32"),
        (lambda t, n: t.update({f"{n}.bias": t[f"{n}.bias"].char()}), "has {}.bias as torch.int8"),
        (lambda t, n: t[f"{n}.weight_scale"].fill_(torch.nan), "{}.weight_scale that are not"),
        (lambda t, n: t[f"{n}.smoothing"].fill_(torch.inf), "{}.smoothing that are not"),
        (None, "quantized as 'int3'"),
    ],
)
def test_int8_weights_that_are_no_such_are_named(
    copy: Path, change: Callable[[dict[str, torch.Tensor], str], Any] | None, expected: str
) -> None:
    from safetensors.torch import load_file

    layer = "encoder.layer.0.intermediate.dense"
    path = core.quantize(load(copy), num_samples=8).path
    tensors, scheme = load_file(path), "int8-dynamic"
    if change is None:
        scheme = "int3"
    else:
        change(tensors, layer)
    save_file(tensors, path, {"core.quantization": scheme, "format": "pt"})
    with pytest.raises(core.ModelFormatError, match=expected.format(layer)) as caught:
        load(copy, file_name=path.name)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("name", ["SwitchTransformers", "MBart"])
def test_encoder_decoders_run_as_in_the_reference(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    shutil.copytree(tiny_model("t5"), path)
    sizes: dict[str, Any] = {"d_model": 32, "vocab_size": 600, "pad_token_id": 0}
    if name == "MBart":  # whole: its decoder reads the text, too
        sizes |= {"encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 128}
        kind, whole = transformers.MBartForConditionalGeneration, transformers.MBartModel
        made = kind(transformers.MBartConfig(**sizes))
    else:
        sizes |= {"d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "num_experts": 2}
        kind = transformers.SwitchTransformersForConditionalGeneration
        whole = transformers.SwitchTransformersEncoderModel
        made = kind(transformers.SwitchTransformersConfig(**sizes))
    (path / "model.safetensors").unlink()
    made.save_pretrained(path)
    model, expected = load(path), whole.from_pretrained(path).eval()
    for text in ("a", "the quick brown fox and more words than one " * 4):
        (found,) = model.encode([text], output_value="token_embeddings")
        batch = {key: torch.from_numpy(value) for key, value in model.tokenize(text).items()}
        with torch.inference_mode():
            own = expected(**batch).last_hidden_state[0].numpy()
        np.testing.assert_allclose(found, own, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t5", "qwen3", "modernbert", "albert"])
def test_int8_of_other_architectures(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    model = load(tiny_model(name))
    artifact = core.quantize(model, target=tmp_path / "out", num_samples=8)
    with artifact.load(device="cpu") as int8:
        assert min_cosine(int8.encode(TEXTS), model.encode(TEXTS)) > 0.95


#: A model's own code: a BERT, which may load by itself as Nomic's does.
OWN_CODE = """
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

class OwnConfig(BertConfig):
    model_type = "own-bert"

class OwnModel(BertModel):
    config_class = OwnConfig
"""
LOADS_BY_ITSELF = """
    @classmethod
    def from_pretrained(cls, folder, config=None, **_):
        model = cls(config, add_pooling_layer=False)
        model.load_state_dict(load_file(f"{folder}/model.safetensors"), strict=False)
        return model
"""


def with_own_code(folder: Path, code: str) -> Path:
    """Have a model's classes come from code in its directory."""
    (folder / "modeling_own.py").write_text(code, encoding="utf-8")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    named = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    config |= {"model_type": "own-bert", "auto_map": named}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("operation", ["optimize", "quantize"])
def test_a_model_s_own_code_runs_every_file_of_it(
    copy: Path, tmp_path: Path, operation: str
) -> None:
    model = load(with_own_code(copy, OWN_CODE), trust_remote_code=True)
    config = {"optimize": "bf16", "quantize": "int8"}[operation]
    more = {"num_samples": 8} if operation == "quantize" else {}
    artifact = getattr(model, operation)(config, target=tmp_path / "out", **more)
    with artifact.load(device="cpu", trust_remote_code=True) as made:
        assert min_cosine(made.encode(TEXTS), model.encode(TEXTS)) > 0.99


#: Of the outputs of each layer: what computes something else, and a weight that is not called.
ODD_LAYERS = """
    def __init__(self, config, add_pooling_layer=False):
        super().__init__(config, add_pooling_layer=False)
        for layer in self.encoder.layer:
            layer.output.dense = Doubled(config.intermediate_size, config.hidden_size)
            layer.attention.output = Uncalled(config)

class Doubled(torch.nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)

class Uncalled(BertSelfOutput):
    def forward(self, hidden_states, input_tensor):
        made = torch.nn.functional.linear(hidden_states, self.dense.weight, self.dense.bias)
        return self.LayerNorm(made + input_tensor)
"""


def test_int8_leaves_alone_what_is_no_plain_linear_layer(copy: Path, tmp_path: Path) -> None:
    imports = "import torch\nfrom transformers.models.bert.modeling_bert import BertSelfOutput\n"
    odd = with_own_code(copy, imports + OWN_CODE + ODD_LAYERS)
    model = load(odd, trust_remote_code=True)
    artifact = core.quantize(model, target=tmp_path / "out", num_samples=8)
    with artifact.load(device="cpu", trust_remote_code=True) as int8:
        assert min_cosine(int8.encode(TEXTS), model.encode(TEXTS)) > 0.999


#: Weights that are computed from others, as Jina's are.
COMPUTED_WEIGHTS = """
    def __init__(self, config, add_pooling_layer=False):
        super().__init__(config, add_pooling_layer=False)
        for layer in self.modules():
            if isinstance(layer, torch.nn.Linear):
                torch.nn.utils.parametrize.register_parametrization(layer, "weight", Added(layer))

class Added(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.down = torch.nn.Parameter(torch.ones(1, layer.in_features))
        self.up = torch.nn.Parameter(torch.ones(layer.out_features, 1) / 100)

    def forward(self, weight):
        return weight + self.up @ self.down
"""


def test_weights_that_are_computed_are_weights_of_an_export(copy: Path, tmp_path: Path) -> None:
    odd = with_own_code(copy, "import torch\n" + OWN_CODE + COMPUTED_WEIGHTS)
    config = transformers.AutoConfig.from_pretrained(odd, trust_remote_code=True)
    torch.manual_seed(0)
    own = transformers.AutoModel.from_config(config, trust_remote_code=True)
    (odd / "model.safetensors").unlink()  # it is a link
    save_file(dict(own.state_dict()), odd / "model.safetensors", {"format": "pt"})
    model = load(odd, trust_remote_code=True)
    exported = core.export(odd, tmp_path / "out", backend="onnx", trust_remote_code=True)
    with exported.load(device="cpu") as onnx:
        assert min_cosine(onnx.encode(TEXTS), model.encode(TEXTS)) > 0.99999
        artifact = core.quantize(onnx, num_samples=8)
    with artifact.load(device="cpu") as int8:
        assert min_cosine(int8.encode(TEXTS), model.encode(TEXTS)) > 0.98


def process_settings() -> list[Any]:
    """What a program would miss if a library that fails left it changed."""
    root = logging.getLogger()
    logs = [root.level, list(root.filters), list(root.handlers), logging.root.manager.disable]
    torch_ = [torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()]
    return [*logs, *torch_, list(warnings.filters), dict(os.environ), Path.cwd(), np.geterr()]


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("raise ValueError('nothing to trace')", "nothing to trace"),
        (
            "return (self.embeddings(input_ids) + torch.histc(attention_mask.float()).sum(),)",
            "histc",
        ),
    ],
)
def test_what_cannot_be_traced_is_named(
    copy: Path, tmp_path: Path, backend: str, statement: str, expected: str
) -> None:
    forward = f"    def forward(self, input_ids, attention_mask):\n        {statement}\n"
    code = "import torch\n" + OWN_CODE + forward
    before = process_settings()
    with pytest.raises(core.UnsupportedOperation, match=f"cannot be traced.*{expected}"):
        core.export(
            with_own_code(copy, code), tmp_path / "out", backend=backend, trust_remote_code=True
        )
    assert process_settings() == before


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_s_own_code_may_load_by_itself(copy: Path, dtype: str) -> None:
    expected = load(copy).encode(TEXTS)
    trusted = with_own_code(copy, OWN_CODE + LOADS_BY_ITSELF)
    model = load(trusted, trust_remote_code=True, model_kwargs={"dtype": dtype})
    assert str(model.dtype).removeprefix("torch.") == dtype
    assert min_cosine(model.encode(TEXTS), expected) > 0.999


@pytest.mark.slow
def test_compile_is_a_recipe_that_gives_the_same_embeddings(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Kept between runs: it is keyed by the code that is compiled, and filling it takes long.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(CACHE / "test-inductor"))
    # In this process: others would import torch first.
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    model = load(copy)
    artifact = core.optimize(model, "compile")
    assert artifact.path == copy / "torch/model_compile.json"
    assert json.loads(artifact.path.read_text())["weights"] == "model.safetensors"
    assert artifact.refers_to == ("model.safetensors",)
    assert artifact.verification is not None
    assert artifact.verification.min_cosine > 0.9999
    with artifact.load(device="cpu") as compiled:
        assert compiled.runtime.compile_options == {"dynamic": True}
        np.testing.assert_allclose(compiled.encode(TEXTS), model.encode(TEXTS), atol=1e-5)


def test_export_writes_safetensors_of_a_pickle(copy: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    expected = load(copy).encode(TEXTS)
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    np.testing.assert_allclose(load(copy).encode(TEXTS), expected, atol=1e-6)
    artifact = core.export(copy, backend="torch")
    assert artifact.path == copy / "model.safetensors"
    assert load(copy).file_name == "model.safetensors"
    np.testing.assert_allclose(load(copy).encode(TEXTS), expected, atol=1e-6)


def test_weights_in_shards(copy: Path, tmp_path: Path) -> None:
    model = load(copy)
    (copy / "model.safetensors").unlink()
    model.runtime.module.save_pretrained(copy, max_shard_size="20KB")
    assert load(copy).file_name == "model.safetensors.index.json"
    np.testing.assert_allclose(load(copy).encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    shard = sorted(copy.glob("model-*.safetensors"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    with pytest.raises(core.ModelFormatError, match=shard.name):
        load(copy)
    shard.unlink()
    with pytest.raises(core.ModelFormatError, match=rf"{shard.name}.*missing"):
        load(copy)


@pytest.mark.parametrize("name", ["bert-cls", "gemma3", "qwen3", "t5"])
def test_saved_models_load_again(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    model = load(tiny_model(name))
    path = model.save(tmp_path / "saved")
    again = load(path)
    np.testing.assert_allclose(again.encode(TEXTS), model.encode(TEXTS), atol=1e-6)
    assert again.prompts == model.prompts
    assert again.max_seq_length == model.max_seq_length


def test_files_made_after_loading_are_saved_too(copy: Path, tmp_path: Path) -> None:
    model = load(copy)
    artifact = core.optimize(model, "bf16")
    saved = model.save(tmp_path / "saved")
    assert (saved / artifact.file_name).read_bytes() == artifact.path.read_bytes()


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        (lambda m: core.optimize(m, "O9"), "compile, fp16, bf16, not 'O9'"),
        (lambda m: core.optimize(m, "compile", mode="fast"), "mode must be one of"),
        (lambda m: core.optimize(m, "fp16", mode="default"), "does not take 'mode'"),
        (lambda m: core.optimize(m, "fp16", file_suffix="../x"), "file_suffix"),
        (lambda m: core.quantize(m, "int2"), "'int8'.*not 'int2'"),
        (lambda m: core.quantize(m, calibration=[]), "No calibration texts"),
        (lambda m: core.quantize(m, create_pr=True), "create_pr"),
        (lambda m: core.export(m.source.name, backend="torch", precision="int3"), "int3"),
        (lambda m: core.export(m.source.name, backend="torch", exporter="x"), "'direct'"),
    ],
)
def test_bad_requests_change_nothing(
    copy: Path, call: Callable[[core.EmbeddingModel], Any], pattern: str
) -> None:
    before = sorted(p.name for p in copy.rglob("*"))
    with pytest.raises(core.OptionError, match=pattern):
        call(load(copy))
    assert sorted(p.name for p in copy.rglob("*")) == before


def test_recipes_are_checked(copy: Path) -> None:
    (copy / "torch").mkdir()
    config = copy / "torch/model_compile.json"
    for content, pattern in (
        ({"format": 1, "weights": "absent.safetensors", "compile": {}}, "missing"),
        ({"format": 1, "weights": "../x", "compile": {}}, "missing"),
        ({"format": 1, "weights": "model.safetensors", "compile": {"x": 1}}, "does not take 'x'"),
        ({"format": 9}, "not a compile configuration"),
    ):
        config.write_text(json.dumps(content))
        with pytest.raises(core.ModelFormatError, match=pattern):
            load(copy, file_name="torch/model_compile.json")


def test_threads_that_became_greenlets_after_the_import_do_not_block_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """gevent's join and sleep let others of the same system thread run, a native lock does not."""

    class SwitchedError(Exception):
        pass

    class Greenlet:
        def __init__(self, **_: object) -> None: ...

        def start(self) -> None: ...

        def join(self) -> None:
            monkeypatch.undo()
            monkeypatch.setattr("time.sleep", switch)
            with pytest.raises(SwitchedError), single_threaded():
                pass

    def switch(_: float) -> None:
        raise SwitchedError

    monkeypatch.setattr("threading.Thread", Greenlet)
    with single_threaded():
        pass
