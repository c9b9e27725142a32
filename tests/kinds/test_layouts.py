"""The tiny models are in the layouts that they stand for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tests.kinds.texts import PAIRS, TEXTS
from tests.tiny_kinds import KINDS, LABELS, MULTI_VECTOR, RERANKERS, SPARSE

Make = Callable[[str], Path]

IDENTITY = "torch.nn.modules.linear.Identity"


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def types_of(folder: Path) -> list[tuple[str, str]]:
    """Path and class of each module; the class without the packages it is in."""
    return [(m["path"], m["type"].rpartition(".")[2]) for m in read(folder, "modules.json")]


@pytest.mark.parametrize("name", [n for n in KINDS if n != "inference-free"])
def test_a_model_has_configuration_weights_and_tokenizer(name: str, tiny_kind: Make) -> None:
    folder = tiny_kind(name)
    config = read(folder, "config.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == config["vocab_size"]
    weights = load_file(folder / "model.safetensors")
    assert all(len(set(array.ravel().tolist())) > 1 for array in weights.values() if array.size > 1)
    assert (folder / "tokenizer_config.json").is_file()
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 600_000


@pytest.mark.parametrize("name", RERANKERS)
def test_rerankers(name: str, tiny_kind: Make) -> None:
    folder = tiny_kind(name)
    architecture = read(folder, "config.json")["architectures"][0]
    causal = "qwen3" in name and "classifier" not in name
    assert architecture.endswith("ForCausalLM" if causal else "ForSequenceClassification")
    classic = name not in ("reranker-new", "reranker-activation-saved") and (
        not causal or name == "reranker-qwen3-bare"
    )
    assert (folder / "modules.json").exists() is not classic


def test_labels_have_names(tiny_kind: Make) -> None:
    names = read(tiny_kind("reranker-labels"), "config.json")["id2label"]
    assert [names[str(number)] for number in range(3)] == list(LABELS)
    assert len(read(tiny_kind("reranker-bert"), "config.json").get("id2label", {"0": ""})) == 1


def test_the_three_places_of_an_activation(tiny_kind: Make) -> None:
    saved = read(tiny_kind("reranker-activation-saved"), "config_sentence_transformers.json")
    assert saved["activation_fn"] == IDENTITY
    assert saved["model_type"] == "CrossEncoder"
    config = read(tiny_kind("reranker-activation-config"), "config.json")
    assert config["sentence_transformers"]["activation_fn"] == IDENTITY
    legacy = read(tiny_kind("reranker-activation-legacy"), "config.json")
    assert legacy["sbert_ce_default_activation_function"] == IDENTITY
    foreign = read(tiny_kind("reranker-activation-foreign"), "config.json")
    assert not foreign["sentence_transformers"]["activation_fn"].startswith("torch.")


def test_causal_rerankers_know_their_two_words(tiny_kind: Make) -> None:
    folder = tiny_kind("reranker-qwen3")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    scores = read(folder, "1_LogitScore/config.json")
    assert tokenizer.encode("yes", add_special_tokens=False).ids == [scores["true_token_id"]]
    assert tokenizer.encode("no", add_special_tokens=False).ids == [scores["false_token_id"]]
    assert read(folder, "tokenizer_config.json")["padding_side"] == "left"
    assert types_of(folder) == [("", "Transformer"), ("1_LogitScore", "LogitScore")]
    one = read(tiny_kind("reranker-qwen3-one-token"), "1_LogitScore/config.json")
    assert one["false_token_id"] is None
    assert (tiny_kind("reranker-qwen3-chat") / "chat_template.jinja").is_file()


@pytest.mark.parametrize(
    ("name", "template", "types"),
    [
        ("reranker-bert", "[CLS] a [SEP] b [SEP]", [0, 0, 0, 1, 1]),
        ("reranker-xlm-roberta", "<s> ▁a </s> </s> ▁b </s>", [0] * 6),
        ("reranker-modernbert", "[CLS] a [SEP] b [SEP]", [0] * 5),
        ("reranker-qwen3", "a b", [0, 0]),
    ],
)
def test_pairs_have_the_template_of_their_family(
    name: str, template: str, types: list[int], tiny_kind: Make
) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_kind(name) / "tokenizer.json"))
    encoded = tokenizer.encode("a", "b")
    # A word that no vocabulary has as one piece comes as the mark of a word and a letter.
    assert " ".join(encoded.tokens).replace("▁ ", "▁") == template
    if len(types) == len(encoded.type_ids):
        assert encoded.type_ids == types


def test_sparse_layouts(tiny_kind: Make) -> None:
    for name in SPARSE:
        folder = tiny_kind(name)
        if "bare" in name:
            assert not (folder / "modules.json").exists()
            assert read(folder, "config.json")["architectures"][0].endswith("ForMaskedLM")
    assert types_of(tiny_kind("splade")) == [
        ("", "Transformer"),
        ("1_SpladePooling", "SpladePooling"),
    ]
    old = tiny_kind("splade-old-sum")
    assert types_of(old)[0] == ("", "MLMTransformer")
    assert "word_embedding_dimension" in read(old, "1_SpladePooling/config.json")
    assert read(old, "1_SpladePooling/config.json")["pooling_strategy"] == "sum"
    assert read(old, "1_SpladePooling/config.json")["activation_function"] == "log1p_relu"


def test_autoencoders_are_stored_as_the_reference_stores_them(tiny_kind: Make) -> None:
    folder = tiny_kind("csr-normalized")
    weights = load_file(folder / "2_SparseAutoEncoder/model.safetensors")
    assert {name: array.shape for name, array in weights.items()} == {
        "decoder.linear.weight": (128, 32),
        "latent_bias": (128,),
        "pre_bias": (32,),
        "stats_last_nonzero": (128,),
    }
    assert read(folder, "2_SparseAutoEncoder/config.json")["normalize"] is True
    assert read(tiny_kind("csr"), "2_SparseAutoEncoder/config.json")["normalize"] is False


def test_a_router_has_everything_in_folders(tiny_kind: Make) -> None:
    folder = tiny_kind("inference-free")
    assert types_of(folder) == [("", "Router")]
    assert {path.name for path in folder.iterdir() if path.is_file()} == {
        "config_sentence_transformers.json",
        "modules.json",
        "router_config.json",
    }
    router = read(folder, "router_config.json")
    assert all((folder / name).is_dir() for name in router["types"])
    weight = load_file(folder / "query_0_SparseStaticEmbedding/model.safetensors")["weight"]
    vocabulary = read(folder, "document_0_Transformer/config.json")["vocab_size"]
    assert weight.shape == (vocabulary,)
    assert (weight >= 0).all()


def test_multi_vector_layouts(tiny_kind: Make) -> None:
    chain = ["Transformer", "Dense", "MultiVectorMask", "Normalize"]
    for name in MULTI_VECTOR:
        folder = tiny_kind(name)
        if name.startswith("colbert"):
            assert [kind for _, kind in types_of(folder)] == chain
            assert list(load_file(folder / "1_Dense/model.safetensors")) == ["linear.weight"]
    for name, model_type in (("pylate", "ColBERT"), ("pylate-1", None)):
        settings = read(tiny_kind(name), "config_sentence_transformers.json")
        assert settings.get("model_type") == model_type
        assert (settings["query_prefix"], settings["document_prefix"]) == ("[Q] ", "[D] ")
        assert types_of(tiny_kind(name))[1] == ("1_Dense", "Dense")
    folder = tiny_kind("stanford")
    assert read(folder, "config.json")["architectures"] == ["HF_ColBERT"]
    weights = load_file(folder / "model.safetensors")
    assert weights["linear.weight"].shape == (16, 32)
    assert all(name.startswith(("bert.", "linear.")) for name in weights)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.token_to_id("[unused0]") is not None
    assert read(folder, "artifact.metadata")["query_maxlen"] == 24
    assert not (tiny_kind("stanford-bare") / "artifact.metadata").exists()


def test_bge_m3_has_two_heads_beside_the_dense_chain(tiny_kind: Make) -> None:
    folder = tiny_kind("bge-m3")
    assert [kind for _, kind in types_of(folder)] == ["Transformer", "Pooling", "Normalize"]
    assert read(folder, "1_Pooling/config.json")["pooling_mode_cls_token"] is True
    for name, outputs in (("sparse_linear", 1), ("colbert_linear", 32)):
        head = torch.load(folder / f"{name}.pt", weights_only=True)
        assert head["weight"].shape == (outputs, 32)
        assert head["bias"].shape == (outputs,)


def test_texts_have_one_token_and_more_than_a_model_takes(tiny_kind: Make) -> None:
    for name in ("reranker-bert", "reranker-xlm-roberta", "reranker-qwen3"):
        tokenizer = Tokenizer.from_file(str(tiny_kind(name) / "tokenizer.json"))
        tokenizer.no_truncation()
        lengths = [len(tokenizer.encode(text, add_special_tokens=False).ids) for text in TEXTS]
        assert min(lengths) == 0
        assert 1 in lengths
        assert sum(100 < length < 512 for length in lengths) >= 2
        assert max(lengths) > 512
        pairs = [len(tokenizer.encode(*pair).ids) for pair in PAIRS]
        assert sum(length > 512 for length in pairs) >= 4
