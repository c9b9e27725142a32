"""A tiny model made of files, written without torch: for the tests of backends that load files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import models, normalizers, pre_tokenizers, processors

from core.artifacts.cache import cache_directory
from core.errors import OptionError
from core.files.staging import put_in_place, staging_directory
from core.files.weights import write_safetensors
from core.testing.subject import TEXTS

#: Raised when anything below changes what is written.
_VERSION = 1
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CONFIG: Mapping[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 32,
    "initializer_range": 0.02,
    "intermediate_size": 64,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "type_vocab_size": 2,
}
_MAX_TOKENS = 128


def tiny_model(directory: str | os.PathLike[str] | None = None) -> Path:
    """Write a BERT with random weights as sentence-transformers would; returns its directory.

    Two layers, 32 dimensions, mean pooling, at most 128 tokens, 130 kB. Its files, its weights and
    so its embeddings are the same every time.

    Args:
        directory: Where to write it; None for a folder in the cache of `core`, where it is written
            once.

    Raises:
        OptionError: The directory is not empty.
    """
    return _written(directory, "tiny-bert", _write)


def tiny_reranker(directory: str | os.PathLike[str] | None = None) -> Path:
    """Write a BERT with random weights that scores pairs of texts; returns its directory.

    As `tiny_model`, with a classification head of one label.
    """
    return _written(directory, "tiny-reranker", _write_reranker)


def tiny_sparse(directory: str | os.PathLike[str] | None = None) -> Path:
    """Write a BERT with random weights that gives words weights (SPLADE); returns its directory.

    As `tiny_model`, with the output layer of a masked language model.
    """
    return _written(directory, "tiny-sparse", _write_sparse)


def tiny_multi_vector(directory: str | os.PathLike[str] | None = None) -> Path:
    """Write a BERT with random weights that gives every token a vector; returns its directory.

    As `tiny_model`, with a projection to 16 dimensions, prompts for queries and documents, queries
    filled up to 24 tokens, and marks that get no vector in documents.
    """
    return _written(directory, "tiny-multi-vector", _write_multi_vector)


def _written(
    directory: str | os.PathLike[str] | None, name: str, write: Callable[[Path], None]
) -> Path:
    target = Path(os.fspath(directory)) if directory is not None else None
    if target is None:
        target = cache_directory() / "testing" / f"{name}-{_VERSION}"
        if (target / "model.safetensors").is_file():
            return target
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OptionError(f"{str(target)!r} exists and is not empty. Choose another directory.")
    with staging_directory(target) as tree:
        write(tree)
        put_in_place(tree, target)
    return target


def tiny_reference() -> dict[str, list[float]]:
    """A few texts and their embeddings by `tiny_model()`, as sentence-transformers computes them:
    what `BackendConformance.reference` takes."""
    recorded = files("core.testing").joinpath("tiny_reference.json").read_text(encoding="utf-8")
    found: dict[str, list[float]] = json.loads(recorded)
    return found


def tiny_reranker_reference() -> dict[tuple[str, str], float]:
    """A few pairs and their scores by `tiny_reranker()` before the activation function, as
    sentence-transformers computes them: what `RerankerConformance.reference` takes."""
    place = files("core.testing").joinpath("tiny_reranker_reference.json")
    found = json.loads(place.read_text(encoding="utf-8"))
    return {(query, document): score for query, document, score in found}


def tiny_sparse_reference() -> dict[str, dict[int, float]]:
    """A few texts and the values of their embeddings by `tiny_sparse()`, as sentence-transformers
    computes them: what `SparseConformance.reference` takes."""
    place = files("core.testing").joinpath("tiny_sparse_reference.json")
    found = json.loads(place.read_text(encoding="utf-8"))
    return {text: {int(n): value for n, value in row.items()} for text, row in found.items()}


def tiny_multi_vector_reference() -> dict[tuple[str, str], list[list[float]]]:
    """A few queries and documents with their vectors by `tiny_multi_vector()`, as
    sentence-transformers computes them: what `MultiVectorConformance.reference` takes."""
    place = files("core.testing").joinpath("tiny_multi_vector_reference.json")
    found = json.loads(place.read_text(encoding="utf-8"))
    return {(task, text): vectors for task, text, vectors in found}


def _write(tree: Path) -> None:
    config = _write_tokenizer(tree)
    for name, content in {
        "config.json": config,
        "modules.json": [
            _module(0, "", "Transformer"),
            _module(1, "1_Pooling", "Pooling"),
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": config["hidden_size"],
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
        },
        "sentence_bert_config.json": {"max_seq_length": _MAX_TOKENS, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }.items():
        _write_json(tree / name, content)
    write_safetensors(tree / "model.safetensors", dict(_weights(config)))


def _write_reranker(tree: Path) -> None:
    config = _write_tokenizer(tree)
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    architecture = {"architectures": ["BertForSequenceClassification"]}
    _write_json(tree / "config.json", {**config, **architecture, **labels})
    weights = {f"bert.{name}": tensor for name, tensor in _weights(config)}
    random = np.random.RandomState(21)
    # Large enough that scores of both signs come out.
    head = random.standard_normal((1, config["hidden_size"])).astype(np.float32)
    bias = np.array([0.1], dtype=np.float32)
    weights |= {"classifier.weight": head, "classifier.bias": bias}
    write_safetensors(tree / "model.safetensors", weights)


def _write_sparse(tree: Path) -> None:
    config = _write_tokenizer(tree)
    package = "sentence_transformers.sparse_encoder.models."
    names = [("", "MLMTransformer"), ("1_SpladePooling", "SpladePooling")]
    for name, content in {
        "config.json": {**config, "architectures": ["BertForMaskedLM"]},
        "modules.json": [
            {"idx": number, "name": str(number), "path": path, "type": package + kind}
            for number, (path, kind) in enumerate(names)
        ],
        "1_SpladePooling/config.json": {
            "pooling_strategy": "max",
            "activation_function": "relu",
            "word_embedding_dimension": config["vocab_size"],
        },
        "sentence_bert_config.json": {"max_seq_length": _MAX_TOKENS, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "model_type": "SparseEncoder",
            "prompts": {},
            "similarity_fn_name": "dot",
        },
    }.items():
        _write_json(tree / name, content)
    weights = {f"bert.{name}": tensor for name, tensor in _weights(config)}
    random = np.random.RandomState(22)
    hidden = config["hidden_size"]
    head = {
        "transform.dense.weight": 0.3 * random.standard_normal((hidden, hidden)),
        "transform.dense.bias": 0.1 * random.standard_normal(hidden),
        "transform.LayerNorm.weight": 1 + 0.1 * random.standard_normal(hidden),
        "transform.LayerNorm.bias": 0.1 * random.standard_normal(hidden),
        # Low, so that most words are in no text.
        "bias": 0.1 * random.standard_normal(config["vocab_size"]) - 3,
    }
    weights |= {f"cls.predictions.{name}": w.astype(np.float32) for name, w in head.items()}
    write_safetensors(tree / "model.safetensors", weights)


def _write_multi_vector(tree: Path) -> None:
    config = _write_tokenizer(tree)
    width, base = 16, "sentence_transformers.base.modules"
    mask = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask"
    of_tokens = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    kinds = {
        "": f"{base}.transformer.Transformer",
        "1_Dense": f"{base}.dense.Dense",
        "2_MultiVectorMask": f"{mask}.MultiVectorMask",
        "3_Normalize": f"{base}.normalize.Normalize",
    }
    for name, content in {
        "config.json": config,
        "modules.json": [
            {"idx": number, "name": str(number), "path": path, "type": kind}
            for number, (path, kind) in enumerate(kinds.items())
        ],
        "sentence_bert_config.json": {
            "transformer_task": "feature-extraction",
            "modality_config": {
                "text": {"method": "forward", "method_output_name": "last_hidden_state"}
            },
            "module_output_name": "token_embeddings",
            "query_expansion": {"strategy": "fixed", "attend": False, "token": None, "length": 24},
        },
        "1_Dense/config.json": {
            "in_features": config["hidden_size"],
            "out_features": width,
            "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
            **of_tokens,
        },
        "2_MultiVectorMask/config.json": {
            "skiplist_words": [".", ",", "!", "?"],
            "skiplist_tasks": ["document"],
            "keep_only_token_ids": None,
        },
        "3_Normalize/config.json": of_tokens,
        "config_sentence_transformers.json": {
            "__version__": {"sentence_transformers": "6.0.0"},
            "model_type": "MultiVectorEncoder",
            "prompts": {"query": "query: ", "document": "text: "},
            "default_prompt_name": None,
            "similarity_fn_name": "maxsim",
        },
    }.items():
        _write_json(tree / name, content)
    write_safetensors(tree / "model.safetensors", dict(_weights(config)))
    projection = np.random.RandomState(22).standard_normal((width, config["hidden_size"]))
    weights = {"linear.weight": (projection * 0.2).astype(np.float32)}
    write_safetensors(tree / "1_Dense/model.safetensors", weights)


def _write_tokenizer(tree: Path) -> dict[str, Any]:
    """The tokenizer's files; returns the configuration with the size of its vocabulary."""
    tokenizer = _tokenizer()
    tokenizer.save(str(tree / "tokenizer.json"))
    _write_json(
        tree / "tokenizer_config.json",
        {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": True,
            "model_max_length": _MAX_TOKENS,
            **{f"{name[1:-1].lower()}_token": name for name in _SPECIAL},
        },
    )
    return {**_CONFIG, "vocab_size": tokenizer.get_vocab_size()}


def _write_json(place: Path, content: Any) -> None:
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _module(number: int, path: str, name: str) -> dict[str, Any]:
    kind = f"sentence_transformers.models.{name}"
    return {"idx": number, "name": str(number), "path": path, "type": kind}


def _tokenizer() -> tokenizers.Tokenizer:
    """WordPiece: the special tokens, every letter of the suite's texts, some words."""
    text = "".join([*TEXTS, "the quick brown fox jumps over a lazy dog 0123456789 query: !?.,;"])
    normalizer = normalizers.BertNormalizer(lowercase=True)
    letters = sorted({c for c in normalizer.normalize_str(text) if not c.isspace()})
    words = ["a", "and", "the", "text", "texts", "of", "word", "one", "two", "short", "query"]
    pieces = dict.fromkeys((*_SPECIAL, *letters, *(f"##{c}" for c in letters), *words))
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


def _weights(config: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and shapes of transformers' BertModel."""
    # Of numpy's generators the one whose numbers never change.
    random = np.random.RandomState(20)
    hidden, inner = config["hidden_size"], config["intermediate_size"]

    def matrix(*shape: int) -> NDArray[np.float32]:
        # Large enough that every token and every position shows in the embedding.
        scale = 1.5 / np.sqrt(shape[-1])
        return np.asarray(random.standard_normal(shape) * scale, dtype=np.float32)

    def norm(name: str) -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield f"{name}.weight", (1 + 0.1 * random.standard_normal(hidden)).astype(np.float32)
        yield f"{name}.bias", (0.1 * random.standard_normal(hidden)).astype(np.float32)

    def linear(name: str, rows: int, columns: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
        yield f"{name}.weight", matrix(rows, columns)
        yield f"{name}.bias", (0.1 * random.standard_normal(rows)).astype(np.float32)

    for kind, rows in (
        ("word", config["vocab_size"]),
        ("position", config["max_position_embeddings"]),
        ("token_type", config["type_vocab_size"]),
    ):
        yield f"embeddings.{kind}_embeddings.weight", matrix(rows, hidden)
    yield from norm("embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for name in ("query", "key", "value"):
            yield from linear(f"{layer}.attention.self.{name}", hidden, hidden)
        yield from linear(f"{layer}.attention.output.dense", hidden, hidden)
        yield from norm(f"{layer}.attention.output.LayerNorm")
        yield from linear(f"{layer}.intermediate.dense", inner, hidden)
        yield from linear(f"{layer}.output.dense", hidden, inner)
        yield from norm(f"{layer}.output.LayerNorm")
    yield from linear("pooler.dense", hidden, hidden)
