"""Every dialect of a model directory is read; what is written all readers know."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import core
from core.architecture.architecture import TRANSFORMER_CONFIGS
from core.architecture.modules import LayerNorm, Normalize, Pooling
from core.checkpoint.resolve import resolve
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.weights import read_weights, write_safetensors
from tests import tiny_kinds, tiny_models
from tests.checkpoint import dialects
from tests.checkpoint.dialects import DIALECTS, build_dialect, chain, new_modules, read, write
from tests.conftest import one_is_quick

TEXTS = ["one text", "another, longer text about vectors", ""]


def embed(folder: Path, **arguments: Any) -> np.ndarray:
    with core.load(str(folder), backend="torch", device="cpu", **arguments) as model:
        result: np.ndarray = model.encode(TEXTS)
        return result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "model"


@pytest.fixture
def tiny(tiny_model: Callable[[str], Path], folder: Path) -> Path:
    """A copy of bert-cls: Transformer, Pooling (cls), Normalize."""
    shutil.copytree(tiny_model("bert-cls"), folder)
    return folder


@pytest.mark.parametrize(
    ("dialect", "same_as"),
    [
        ("transformer-in-a-folder", "bert-cls"),
        ("old-length-name", "roberta"),
        ("no-modules-json", "bert-mean"),
    ],
)
def test_an_old_layout_embeds_like_the_usual_one(
    folder: Path, tiny_model: Callable[[str], Path], dialect: str, same_as: str
) -> None:
    build_dialect(dialect, folder)
    assert np.array_equal(embed(folder), embed(tiny_model(same_as)))


def test_the_new_modules_json_embeds_like_the_old(
    folder: Path, tiny_model: Callable[[str], Path]
) -> None:
    new_modules(folder)
    assert np.array_equal(embed(folder), embed(tiny_model("bert-cls")))
    # The length is in tokenizer_config.json alone.
    assert resolve(folder).architecture.max_seq_length == 128


@pytest.mark.parametrize("name", TRANSFORMER_CONFIGS)
def test_the_length_is_read_under_each_of_its_files_names(tiny: Path, name: str) -> None:
    (tiny / "sentence_bert_config.json").unlink()
    write(tiny, name, {"max_seq_length": 17, "do_lower_case": True})
    architecture = resolve(tiny).architecture
    assert architecture.max_seq_length == 17
    assert architecture.do_lower_case


@pytest.mark.parametrize(
    "kind",
    [
        "sentence_transformers.models.Normalize",
        "sentence_transformers.sentence_transformer.modules.normalize.Normalize",
        "sentence_transformers.base.modules.normalize.Normalize",
        "sentence_transformers.models.Normalize.Normalize",
    ],
)
def test_a_class_is_known_by_its_last_name(tiny: Path, kind: str) -> None:
    modules = read(tiny, "modules.json")
    modules[2]["type"] = kind
    write(tiny, "modules.json", modules)
    assert isinstance(resolve(tiny).architecture.modules[1], Normalize)


LEGACY = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


@pytest.mark.parametrize("mode", LEGACY)
def test_a_pooling_mode_means_the_same_in_both_spellings(tiny: Path, mode: str) -> None:
    flags = {flag: name == mode for name, flag in LEGACY.items()}
    write(tiny, "1_Pooling/config.json", {"word_embedding_dimension": 32, **flags})
    old = resolve(tiny).architecture.modules[0]
    write(tiny, "1_Pooling/config.json", {"embedding_dimension": 32, "pooling_mode": mode})
    assert resolve(tiny).architecture.modules[0] == old == Pooling(modes=(mode,))


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"pooling_mode_cls_token": True}, ("cls",)),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, ("mean",)),
        ({}, ("mean",)),
        ({"pooling_mode_lasttoken": True, "pooling_mode_cls_token": True}, ("cls", "lasttoken")),
        ({"pooling_mode": ["mean", "max"]}, ("mean", "max")),
    ],
)
def test_partial_and_several_flags(tiny: Path, config: dict[str, Any], modes: tuple[str]) -> None:
    write(tiny, "1_Pooling/config.json", {"word_embedding_dimension": 32, **config})
    pooling = resolve(tiny).architecture.modules[0]
    assert isinstance(pooling, Pooling)
    assert pooling.modes == modes


def test_a_causal_model_without_modules_json_pools_its_last_token(
    tiny_model: Callable[[str], Path], folder: Path
) -> None:
    shutil.copytree(tiny_model("qwen3"), folder)
    (folder / "modules.json").unlink()
    for is_causal, mode in ((None, "lasttoken"), (True, "lasttoken"), (False, "mean")):
        config = {**read(folder, "config.json"), "architectures": ["Qwen3ForCausalLM"]}
        if is_causal is not None:
            config["is_causal"] = is_causal
        write(folder, "config.json", config)
        assert resolve(folder).architecture.modules[0] == Pooling(modes=(mode,))


def test_dense_reads_safetensors_and_pickles_alike(folder: Path, tmp_path: Path) -> None:
    build_dialect("dense-in-pickle", folder)
    from_pickle = embed(folder)
    weights = read_weights(folder / "2_Dense/pytorch_model.bin")
    (folder / "2_Dense/pytorch_model.bin").unlink()
    write_safetensors(folder / "2_Dense/model.safetensors", weights)
    assert np.array_equal(embed(folder), from_pickle)
    assert from_pickle.shape == (3, 16)


def test_dense_with_a_residual_adds_its_input(folder: Path) -> None:
    build_dialect("dense-in-pickle", folder)
    random = np.random.default_rng(0)
    square = {
        "linear.weight": random.normal(0, 0.2, (32, 32)).astype(np.float32),
        "linear.bias": np.zeros(32, np.float32),
    }
    (folder / "2_Dense/pytorch_model.bin").unlink()
    write_safetensors(folder / "2_Dense/model.safetensors", square)
    config = {**read(folder, "2_Dense/config.json"), "out_features": 32}
    write(folder, "2_Dense/config.json", config)
    plain = embed(folder)
    write(folder, "2_Dense/config.json", {**config, "use_residual": True})
    chain(folder, *[(m["type"], m["path"]) for m in read(folder, "modules.json")[:2]])
    pooled = embed(folder)
    dense = {"type": dialects.OLD + "Dense", "path": "2_Dense"}
    write(folder, "modules.json", [*read(folder, "modules.json"), dense])
    assert np.allclose(embed(folder), plain + pooled, atol=1e-6)


def test_transformer_weights_in_a_pickle_load(
    tiny: Path, tiny_model: Callable[[str], Path]
) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(tiny / "model.safetensors"), tiny / "pytorch_model.bin")
    (tiny / "model.safetensors").unlink()
    assert np.array_equal(embed(tiny), embed(tiny_model("bert-cls")))


@pytest.fixture
def model2vec(folder: Path, tiny_model: Callable[[str], Path]) -> Path:
    """model2vec's layout: no modules.json, shared rows, a weight for each token."""
    random = np.random.default_rng(4)
    write_safetensors(
        folder / "model.safetensors",
        {
            "embeddings": random.normal(size=(50, 24)).astype(np.float16),
            "mapping": random.integers(0, 50, 400),
            "weights": random.uniform(0.5, 2, 400),
        },
    )
    write(folder, "config.json", {"model_type": "model2vec", "normalize": True})
    shutil.copyfile(tiny_model("bert-mean") / "tokenizer.json", folder / "tokenizer.json")
    return folder


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
@pytest.mark.parametrize("operation", [core.optimize, core.quantize])
def test_a_table_of_embeddings_is_neither_optimized_nor_quantized(
    folder: Path, backend: str, operation: Callable[..., Any]
) -> None:
    build_dialect("static-table", folder)
    with core.load(folder, backend=backend) as model:
        for config in (None, "fp16") if operation is core.optimize else (None,):
            with pytest.raises(core.UnsupportedOperation, match="static embeddings"):
                operation(model, config)


def test_static_embeddings_average_rows(folder: Path) -> None:
    build_dialect("static-table", folder)
    table = read_weights(folder / "0_StaticEmbedding/model.safetensors")["embedding.weight"]
    with core.load(str(folder), backend="torch", device="cpu") as model:
        ids = model.tokenizer.encode([TEXTS[1]]).ids
        mean = table[ids].mean(axis=0)
        assert np.allclose(model.encode(TEXTS[1]), mean / np.linalg.norm(mean), atol=1e-6)
        assert not model.encode("").any()


def test_model2vec_shares_and_weights_rows(model2vec: Path) -> None:
    weights = read_weights(model2vec / "model.safetensors")
    table = weights["embeddings"][weights["mapping"]] * weights["weights"][:, None]
    with core.load(str(model2vec), backend="torch", device="cpu") as model:
        ids = model.tokenizer.encode([TEXTS[1]]).ids
        mean = table[ids].mean(axis=0)
        assert np.allclose(model.encode(TEXTS[1]), mean / np.linalg.norm(mean), atol=1e-5)


def test_model2vec_leaves_unknown_tokens_out(model2vec: Path, tmp_path: Path) -> None:
    with core.load(str(model2vec), backend="torch", device="cpu") as model:
        unknown = model.tokenizer.backend.token_to_id("[UNK]")
        assert unknown in model.tokenizer.encode(["one ☃ text"]).ids
        assert model.max_seq_length == 512
        expected = model.encode(["one text"])
        assert np.allclose(model.encode(["one ☃ text"]), expected, atol=1e-6)
        model.save(tmp_path / "saved")
    with core.load(str(tmp_path / "saved"), backend="torch", device="cpu") as saved:
        assert np.allclose(saved.encode(["one ☃ text"]), expected, atol=1e-6)


def test_unknown_tokens_count_where_sentence_transformers_wrote_the_directory(
    model2vec: Path, tmp_path: Path
) -> None:
    bare = embed(model2vec)
    chain(model2vec, ("sentence_transformers.models.StaticEmbedding", ""))
    unknown = "\U0001f9ff one"
    with core.load(str(model2vec), backend="torch") as model:
        counted = model.encode([unknown, "one"])
    assert not np.allclose(counted[0], counted[1])
    (model2vec / "modules.json").unlink()
    with core.load(str(model2vec), backend="torch") as model:
        left_out = model.encode([unknown, "one"])
    np.testing.assert_allclose(left_out[0], left_out[1], atol=1e-6)
    np.testing.assert_array_equal(embed(model2vec), bare)


def test_a_static_model_is_cut_where_its_tokenizer_cuts(folder: Path) -> None:
    build_dialect("static-table", folder)
    (place,) = folder.rglob("tokenizer.json")
    content = json.loads(place.read_text())
    content["truncation"] = {
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0,
    }  # fmt: skip
    place.write_text(json.dumps(content))
    with core.load(str(folder), backend="torch") as model:
        assert model.max_seq_length == 3
        rows = model.encode(["sea shells on the shore", "sea shells on"])
    np.testing.assert_array_equal(rows[0], rows[1])
    content["truncation"]["max_length"] = 0
    place.write_text(json.dumps(content))
    with pytest.raises(core.ModelFormatError, match=r"tokenizer\.json cuts every text to nothing"):
        core.load(str(folder), backend="torch")


def test_model2vec_is_saved_as_the_table_sentence_transformers_reads(
    model2vec: Path, tmp_path: Path
) -> None:
    with core.load(str(model2vec), backend="torch", device="cpu") as model:
        model.save(tmp_path / "saved")
    saved = read_weights(tmp_path / "saved/model.safetensors")
    assert list(saved) == ["embedding.weight"]
    assert [m["type"].rpartition(".")[2] for m in read(tmp_path / "saved", "modules.json")] == [
        "StaticEmbedding",
        "Normalize",
    ]
    assert np.allclose(embed(tmp_path / "saved"), embed(model2vec), atol=1e-6)


def test_static_embeddings_run_on_every_installed_backend(folder: Path) -> None:
    build_dialect("static-table", folder)
    expected = embed(folder)
    installed = [name for name, status in core.backends().items() if status.status == "ok"]
    assert {"torch", "onnx", "openvino"} <= set(installed)
    for name in installed:
        with core.load(str(folder), backend=name) as model:
            assert np.array_equal(model.encode(TEXTS), expected), name


@pytest.mark.parametrize(
    "name", ["CNN", "LSTM", "CLIPModel", "Router", "Asym", "BoW", "WordWeights"]
)
def test_a_module_that_is_not_run_is_named(tiny: Path, name: str) -> None:
    chain(
        tiny, (f"sentence_transformers.models.{name}", ""), (dialects.OLD + "Pooling", "1_Pooling")
    )
    with pytest.raises(UnsupportedOperation, match=f"type {name}, which core does not run"):
        embed(tiny)


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("SparseEncoder", "is a sparse encoder, not an embedding model.* core.load_sparse"),
        ("CrossEncoder", "is a reranker, not an embedding model: load it with core.load_reranker"),
        ("AudioEncoder", "is a AudioEncoder; core runs the kinds SentenceTransformer"),
    ],
)
def test_another_kind_of_model_is_named(tiny: Path, kind: str, named: str) -> None:
    write(tiny, "config_sentence_transformers.json", {"model_type": kind})
    with pytest.raises(UnsupportedOperation, match=named):
        embed(tiny)


def test_an_adapter_says_what_it_belongs_to(tiny: Path) -> None:
    (tiny / "model.safetensors").rename(tiny / "adapter_model.safetensors")
    write(tiny, "adapter_config.json", {"base_model_name_or_path": "some/base"})
    with pytest.raises(UnsupportedOperation, match="PEFT adapter for 'some/base'"):
        core.load(str(tiny), backend="torch")
    for name in ("modules.json", "config.json", "config_sentence_transformers.json"):
        (tiny / name).unlink()
    with pytest.raises(UnsupportedOperation, match="PEFT adapter"):
        core.load(str(tiny), backend="onnx")


def test_a_cross_encoder_of_before_modules_json_is_named(tiny: Path) -> None:
    (tiny / "modules.json").unlink()
    config = {**read(tiny, "config.json"), "architectures": ["BertForSequenceClassification"]}
    write(tiny, "config.json", {**config, "sentence_transformers": {"version": "4.1.0"}})
    with pytest.raises(UnsupportedOperation, match=r"is a reranker.* core\.load_reranker"):
        core.load(str(tiny), backend="torch")


def test_a_guessed_pooling_is_told(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tiny / "modules.json").unlink()
    core.load(str(tiny), backend="torch").close()
    assert "no modules.json" in caplog.text
    assert "mean pooling is assumed" in caplog.text


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("config.json", {"architectures": 5}),
        ("config.json", {"architectures": {"a": 1}}),
        ("config.json", {"model_type": "roberta", "pad_token_id": [1]}),
    ],
)
def test_odd_settings_that_tell_nothing_are_passed_over(
    tiny: Path, name: str, settings: dict[str, Any]
) -> None:
    write(tiny, name, {**read(tiny, name), **settings})
    (tiny / "modules.json").unlink()
    assert resolve(tiny).architecture.modules == (Pooling(modes=("mean",)),)


@pytest.mark.parametrize("stated", ["cos_sim", "maxsim", ["cosine"]])
def test_a_similarity_without_a_name_is_cosine(
    tiny: Path, caplog: pytest.LogCaptureFixture, stated: Any
) -> None:
    """As in sentence-transformers, which passes over what it does not know."""
    write(tiny, "config_sentence_transformers.json", {"similarity_fn_name": stated})
    assert core.load(tiny, backend="torch").similarity_fn_name == "cosine"
    assert "cosine is used" in caplog.text


def test_a_prompt_of_null_is_empty(tiny: Path) -> None:
    settings = {"prompts": {"query": None, "passage": "p: "}, "default_prompt_name": "query"}
    write(tiny, "config_sentence_transformers.json", settings)
    model = core.load(tiny, backend="torch")
    assert model.prompts == {"query": "", "passage": "p: "}
    np.testing.assert_array_equal(model.encode_query("a fox"), model.encode("a fox", prompt=""))


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("bert-mean", core.load),
        ("reranker-bert", core.load_reranker),
        ("splade-bare-bert", core.load_sparse),
    ],
)
def test_settings_without_modules_count_as_in_the_reference(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, load: Any
) -> None:
    """The reference reads them where there is a modules.json alone."""
    path = tmp_path / name
    (tiny_kinds if name in tiny_kinds.KINDS else tiny_models).build(name, path)
    (path / "modules.json").unlink(missing_ok=True)
    settings = {"prompts": {"query": "q: "}, "default_prompt_name": "query", "max_active_dims": 3}
    settings["similarity_fn_name"] = "manhattan"
    write(path, "config_sentence_transformers.json", settings)
    model = load(path, backend="torch")
    assert (model.prompts, model.default_prompt_name) == ({}, None)
    assert getattr(model, "similarity_fn_name", "dot") in ("cosine", "dot")
    assert getattr(model, "max_active_dims", None) is None
    assert "config_sentence_transformers.json is not read" in caplog.text


@pytest.mark.parametrize(
    ("kind", "settings", "limit"),
    [
        ("bert", {}, 40),
        *[(kind, {}, 38) for kind in ("roberta", "ibert", "luke", "xlm-roberta-xl", "xmod", "esm")],
        *[(kind, {}, 38) for kind in ("roberta-prelayernorm", "longformer", "mpnet", "camembert")],
        ("roberta", {"pad_token_id": 0}, 39),
        ("markuplm", {}, 39),
        ("esm", {"position_embedding_type": "rotary"}, 38),
        ("t5", {}, None),
        ("xlnet", {}, None),
    ],
)
def test_how_many_positions_an_architecture_leaves_a_text(
    tiny: Path, kind: str, settings: dict[str, Any], limit: int | None
) -> None:
    config = {"model_type": kind, "hidden_size": 32, "max_position_embeddings": 40, **settings}
    write(tiny, "config.json", config)
    for name in ("tokenizer_config.json", "sentence_bert_config.json"):
        (tiny / name).unlink()
    assert resolve(tiny).architecture.max_seq_length == limit


def test_a_module_s_folder_may_be_written_with_dots(tiny: Path) -> None:
    expected = embed(tiny)
    modules = read(tiny, "modules.json")
    modules[0]["path"], modules[1]["path"] = ".", "./1_Pooling/"
    write(tiny, "modules.json", modules)
    assert np.array_equal(embed(tiny), expected)


@pytest.mark.parametrize("keyword", ["trust_remote_code", "local_files_only", "cache_dir"])
def test_a_model_s_files_do_not_decide_where_files_come_from(tiny: Path, keyword: str) -> None:
    settings = read(tiny, "sentence_bert_config.json")
    for key in ("config_args", "model_args", "tokenizer_args"):
        settings[key] = {keyword: True}
    write(tiny, "sentence_bert_config.json", settings)
    assert embed(tiny).shape == (3, 32)


def test_attention_kernels_from_elsewhere_are_the_caller_s_choice(tiny: Path) -> None:
    write(tiny, "config.json", {**read(tiny, "config.json"), "attn_implementation": "evil/kernel"})
    with pytest.raises(UnsupportedOperation, match="'evil/kernel'"):
        embed(tiny)
    assert embed(tiny, model_kwargs={"attn_implementation": "eager"}).shape == (3, 32)


def test_custom_code_is_named_and_not_run(tiny: Path) -> None:
    (tiny / "evil.py").write_text(f"open({str(tiny / 'ran')!r}, 'w')\nclass Custom: pass\n")
    chain(tiny, (dialects.OLD + "Transformer", ""), ("evil.Custom", "1_Pooling"))
    with pytest.raises(UnsupportedOperation, match=r"'evil.Custom'.*never runs"):
        embed(tiny, trust_remote_code=True)
    assert not (tiny / "ran").exists()


@pytest.mark.parametrize("dialect", one_is_quick("new-modules", DIALECTS))
def test_saving_writes_the_old_dialect_and_changes_no_embedding(
    folder: Path, tmp_path: Path, dialect: str
) -> None:
    if dialect == "new-modules":
        new_modules(folder)
    else:
        build_dialect(dialect, folder)
    saved = tmp_path / "saved"
    with core.load(str(folder), backend="torch", device="cpu") as model:
        model.save(saved)
    assert np.array_equal(embed(saved), embed(folder))
    modules = read(saved, "modules.json")
    for number, module in enumerate(modules):
        assert module["type"].startswith("sentence_transformers.models.")
        assert (module["idx"], module["name"]) == (number, str(number))
    if "StaticEmbedding" not in modules[0]["type"]:
        assert modules[0]["path"] == ""
        assert {"max_seq_length", "do_lower_case"} <= set(read(saved, "sentence_bert_config.json"))
        pooling = read(saved, "1_Pooling/config.json")
        assert pooling["word_embedding_dimension"] == 32
        assert {type(pooling[flag]) for flag in LEGACY.values()} == {bool}


def test_the_configuration_of_a_live_model_is_what_is_saved(tiny: Path, tmp_path: Path) -> None:
    with core.load(str(tiny), backend="torch", device="cpu") as model:
        model.prompts.update({"query": "find: ", "document": ""})
        model.default_prompt_name = "query"
        model.similarity_fn_name = "dot"
        model.max_seq_length = 9
        model.truncate_dim = 8
        model.save(tmp_path / "saved")
    with core.load(str(tmp_path / "saved"), backend="torch", device="cpu") as again:
        assert again.prompts == {"query": "find: ", "document": ""}
        assert again.default_prompt_name == "query"
        assert again.similarity_fn_name == "dot"
        assert again.max_seq_length == 9
        assert again.dimension == 8


def test_every_file_of_the_source_is_kept(tiny: Path, tmp_path: Path) -> None:
    extra = {"README.md": b"mine", "notes/deep/a.txt": b"1", "onnx/model_x.onnx": b"graph"}
    for name, content in extra.items():
        (tiny / name).parent.mkdir(parents=True, exist_ok=True)
        (tiny / name).write_bytes(content)
    with core.load(str(tiny), backend="torch", device="cpu") as model:
        model.save(tmp_path / "saved")
    for name, content in extra.items():
        assert (tmp_path / "saved" / name).read_bytes() == content
    before = {p.relative_to(tiny) for p in tiny.rglob("*") if p.is_file()}
    assert {tmp_path / "saved" / p for p in before} <= set((tmp_path / "saved").rglob("*"))


def test_a_card_is_made_once(tiny: Path, tmp_path: Path) -> None:
    saved = tmp_path / "my-model"
    with core.load(str(tiny), backend="torch", device="cpu") as model:
        model.save(saved)
        card = (saved / "README.md").read_text()
        assert 'core.load("my-model", backend="torch")' in card
        assert 'SentenceTransformer("my-model")' in card
        (saved / "README.md").write_text("mine")
        model.save(saved)
    assert (saved / "README.md").read_text() == "mine"


def test_a_tokenizer_json_is_made_from_an_old_vocabulary(tiny: Path, tmp_path: Path) -> None:
    vocabulary = json.loads((tiny / "tokenizer.json").read_text())["model"]["vocab"]
    (tiny / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)))
    expected = embed(tiny)
    (tiny / "tokenizer.json").unlink()
    assert np.array_equal(embed(tiny), expected)
    with core.load(str(tiny), backend="torch", device="cpu") as model:
        model.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved/tokenizer.json").read_text())["truncation"] is None
    assert np.array_equal(embed(tmp_path / "saved"), expected)


def test_token_embeddings_are_normalized_where_a_module_says_so(tiny: Path) -> None:
    with core.load(str(tiny), backend="torch", device="cpu") as model:
        rows = model.encode(TEXTS, output_value="token_embeddings")
    means = np.stack([(r / np.linalg.norm(r, axis=1, keepdims=True)).mean(axis=0) for r in rows])
    names = ("Transformer", ""), ("Normalize", "2_Normalize"), ("Pooling", "1_Pooling")
    chain(tiny, *((dialects.OLD + name, path) for name, path in names))
    write(tiny, "1_Pooling/config.json", {"embedding_dimension": 32, "pooling_mode": "mean"})
    write(tiny, "2_Normalize/config.json", {"module_input_name": "token_embeddings"})
    np.testing.assert_allclose(embed(tiny), means, atol=1e-6)


def test_token_embeddings_are_those_that_are_pooled(tiny: Path) -> None:
    with core.load(str(tiny), backend="torch", device="cpu") as model:
        rows = model.encode(TEXTS, output_value="token_embeddings")
    names = ("Transformer", ""), ("Dense", "2_Dense"), ("Normalize", "3"), ("Pooling", "1_Pooling")
    chain(tiny, *((dialects.OLD + name, path) for name, path in names))
    weight = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32)
    of_tokens = {"module_input_name": "token_embeddings"}
    sizes = {"in_features": 32, "out_features": 8, "bias": False}
    identity = {"activation_function": "torch.nn.modules.linear.Identity"}
    write(tiny, "2_Dense/config.json", {**sizes, **identity, **of_tokens})
    write_safetensors(tiny / "2_Dense/model.safetensors", {"linear.weight": weight})
    write(tiny, "3/config.json", of_tokens)
    write(tiny, "1_Pooling/config.json", {"embedding_dimension": 8, "pooling_mode": "cls"})
    with core.load(str(tiny), backend="torch", device="cpu") as model:
        pooled, found = model.encode(TEXTS), model.encode(TEXTS, output_value="token_embeddings")
    for row, tokens, embedding in zip(rows, found, pooled, strict=True):
        expected = row @ weight.T
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(tokens, expected, atol=1e-5)
        np.testing.assert_allclose(tokens[0], embedding, atol=1e-5)


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"module_input_name": "token_embeddings"}, "token embeddings follows their pooling"),
        ({"module_output_name": "token_embeddings"}, "makes 'token_embeddings' of 'sentence_emb"),
        ({"module_input_name": "scores"}, "maps 'scores' to 'scores'; known are"),
    ],
)
def test_a_normalize_of_something_else_is_named(
    tiny: Path, config: dict[str, str], named: str
) -> None:
    write(tiny, "2_Normalize/config.json", config)
    with pytest.raises((ModelFormatError, UnsupportedOperation), match=named):
        embed(tiny)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"modality_config": {"text": {}, "message": {}}}, "puts texts into .* chat template"),
        (
            {"modality_config": {"text": {"method_output_name": ["hidden_states", -2]}}},
            r"takes \['hidden_states', -2\] of the transformer's 'forward' for a text",
        ),
        (
            {"modality_config": {"text": {"method": "get_text_features"}}},
            "of the transformer's 'get_text_features' for a text",
        ),
        ({"query_length": 32}, "has query_length: queries and documents of lengths"),
        ({"query_expansion": {"strategy": "min", "length": 9}}, "has query_expansion"),
    ],
)
def test_what_makes_other_embeddings_of_a_text_is_refused(
    tiny: Path, settings: dict[str, Any], named: str
) -> None:
    write(tiny, "sentence_bert_config.json", settings)
    with pytest.raises(UnsupportedOperation, match=named):
        embed(tiny)


def test_a_chat_template_that_is_not_used_is_told(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tiny / "modules.json").unlink()
    (tiny / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    embed(tiny)
    assert "has a chat template and no modules.json" in caplog.text


@pytest.mark.parametrize(
    ("kind", "limit"), [("bert", 40), ("roberta", 38), ("modernbert", 100), ("qwen3", 100)]
)
def test_a_stated_length_goes_past_computed_positions(tiny: Path, kind: str, limit: int) -> None:
    write(
        tiny,
        "config.json",
        {"model_type": kind, "hidden_size": 32, "max_position_embeddings": 40},
    )
    write(tiny, "sentence_bert_config.json", {"max_seq_length": 100})
    assert resolve(tiny).architecture.max_seq_length == limit


@pytest.mark.parametrize("key", ["rope_type", "type"])
def test_positions_that_grow_with_the_texts_before_are_not_used(
    tiny: Path, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = {"model_type": "llama", "hidden_size": 32, "max_position_embeddings": 40}
    write(tiny, "config.json", {**config, "rope_scaling": {key: "dynamic", "factor": 4.0}})
    write(tiny, "sentence_bert_config.json", {"max_seq_length": 100})
    assert resolve(tiny).architecture.max_seq_length == 40
    assert "texts are cut at 40 tokens, not at 100" in caplog.text


def test_dense_and_layer_norm_need_their_weights(folder: Path) -> None:
    build_dialect("layer-norm", folder)
    assert isinstance(resolve(folder).architecture.modules[-1], LayerNorm)
    (folder / "2_LayerNorm/model.safetensors").unlink()
    with pytest.raises(ModelFormatError, match="weights of module '2_LayerNorm' are missing"):
        embed(folder)


def test_the_order_of_pooling_modes_survives_saving(tiny: Path, tmp_path: Path) -> None:
    config = {"embedding_dimension": 32, "pooling_mode": ["mean", "cls"]}
    write(tiny, "1_Pooling/config.json", config)
    expected = embed(tiny)
    with core.load(str(tiny), backend="torch", device="cpu") as model:
        model.save(tmp_path / "saved")
    assert np.array_equal(embed(tmp_path / "saved"), expected)
    write(tiny, "1_Pooling/config.json", {**config, "pooling_mode": ["cls", "mean"]})
    assert not np.array_equal(embed(tiny), expected)


@pytest.mark.parametrize("backend", ["torch", "onnx", "openvino"])
@pytest.mark.parametrize("beyond", ["vocabulary", "added token"])
def test_a_static_table_smaller_than_its_vocabulary_is_refused(
    folder: Path, beyond: str, backend: str
) -> None:
    build_dialect("static-table", folder)
    inner = folder / "0_StaticEmbedding"
    content = read(inner, "tokenizer.json")
    rows = len(content["model"]["vocab"])
    table = np.ones((rows, 8), np.float32)
    if beyond == "vocabulary":
        table = table[:-1]
    write_safetensors(inner / "model.safetensors", {"embedding.weight": table})
    if beyond == "added token":
        core.load(folder, backend=backend).close()
        token = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        content["added_tokens"].append({"id": rows, "content": "<ent>", **token})
        write(inner, "tokenizer.json", content)
    with pytest.raises(ModelFormatError, match=rf"tokens up to \d+.*has {len(table)} rows"):
        core.load(folder, backend=backend)


def test_a_static_embedding_reads_tokenizer_json_alone(folder: Path) -> None:
    """As the reference does: what lies beside it says nothing of these tokens."""
    build_dialect("static-table", folder)
    before = embed(folder)
    settings = {"pad_token": "[P]", "additional_special_tokens": ["<ent>"], "do_lower_case": False}
    write(folder / "0_StaticEmbedding", "tokenizer_config.json", settings)
    assert np.array_equal(embed(folder), before)
    (folder / "0_StaticEmbedding" / "tokenizer.json").unlink()
    (folder / "0_StaticEmbedding" / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\nsea\n")
    with pytest.raises(ModelFormatError, match=r"no 0_StaticEmbedding/tokenizer\.json"):
        core.load(folder, backend="torch")


def test_of_two_modules_of_one_name_the_last_runs_in_the_place_of_the_first(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    """As in sentence-transformers, which keeps them by name."""
    folder = Path(shutil.copytree(tiny_model("gemma3"), tmp_path / "model"))
    modules = read(folder, "modules.json")
    rest = modules[:-2] + modules[-1:]
    write(folder, "modules.json", rest)
    with core.load(folder, backend="torch", device="cpu") as model:
        expected = model.encode("one text")
    modules[-2]["name"] = modules[-1]["name"]
    write(folder, "modules.json", modules)
    with core.load(folder, backend="torch", device="cpu") as model:
        assert np.array_equal(model.encode("one text"), expected)
