"""The kinds of model: what each is called, who loads it, and which a checkpoint is by its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.architecture.entries import module_types, router_types
from core.architecture.transformer_files import is_first, read_config, transformer_task
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.source import Source

EMBEDDING = "embedding"
RERANKER = "reranker"
SPARSE = "sparse"
MULTI_VECTOR = "multi_vector"


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        noun: With its article, as messages say it.
        loader: The function that loads one; "" for a kind that core knows and does not run.
        reference: sentence-transformers' class of it, which config_sentence_transformers.json
            names as `model_type`.
    """

    noun: str
    loader: str
    reference: str


KINDS: Mapping[str, Kind] = {
    EMBEDDING: Kind("an embedding model", "core.load", "SentenceTransformer"),
    RERANKER: Kind("a reranker", "core.load_reranker", "CrossEncoder"),
    SPARSE: Kind("a sparse encoder", "core.load_sparse", "SparseEncoder"),
    MULTI_VECTOR: Kind("a multi-vector model", "core.load_multi_vector", "MultiVectorEncoder"),
}

#: Classes in modules.json that only one kind of model has.
_MODULES = {
    "LogitScore": RERANKER,
    "MLMTransformer": SPARSE,
    "SpladePooling": SPARSE,
    "SparseAutoEncoder": SPARSE,
    "CSRSparsity": SPARSE,
    "SparseStaticEmbedding": SPARSE,
    "MultiVectorMask": MULTI_VECTOR,
}
#: Packages of modules.json's classes, for the same.
_PACKAGES = {
    "cross_encoder": RERANKER,
    "sparse_encoder": SPARSE,
    "multi_vector_encoder": MULTI_VECTOR,
    "pylate": MULTI_VECTOR,
}
#: What Stanford's ColBERT writes beside a model.
COLBERT_METADATA = "artifact.metadata"
#: Settings of the whole model that only PyLate's have; its first releases name no kind.
_PYLATE_SETTINGS = ("query_prefix", "document_prefix")
_TASKS = {
    "sequence-classification": RERANKER,
    "text-generation": RERANKER,
    "fill-mask": SPARSE,
}


def kinds_of(source: Source) -> tuple[str, ...]:
    """The kinds a checkpoint can be loaded as; the first is its own.

    A transformer without modules.json may say too little: a language model is what embeddings are
    made of, and with the head it was trained with it is a sparse encoder or a reranker.

    Raises:
        UnsupportedOperation: It is of a kind that is unknown here.
    """
    stated = _stated(source)
    if stated is not None:
        return (stated,)
    if source.has("modules.json"):
        return (_by_modules(source),)
    if source.has(COLBERT_METADATA) or is_stanford_colbert(source):
        return (MULTI_VECTOR,)
    config = read_config(source, "")
    if is_first(config, "ForSequenceClassification"):
        return (RERANKER,)
    if is_first(config, "ForMaskedLM"):
        return EMBEDDING, SPARSE
    if is_first(config, "ForCausalLM"):
        return EMBEDDING, RERANKER
    return (EMBEDDING,)


def choose_kind(source: Source, asked: str | None) -> str:
    """The kind to read a checkpoint as: the one asked for, or its own.

    Raises:
        UnsupportedOperation: It is none of that kind, and the message says what loads it; or of
            one that core does not run.
    """
    kinds = kinds_of(source)
    found = KINDS[kinds[0]]
    if not found.loader:
        raise UnsupportedOperation(
            f"{source} is {found.noun}, which core does not run: {found.reference} of "
            "sentence-transformers does."
        )
    if asked is None:
        return kinds[0]
    if asked not in kinds:
        wanted = KINDS[asked]
        raise UnsupportedOperation(
            f"{source} is {found.noun}, not {wanted.noun}: load it with {found.loader}."
            f"{_why_not(asked)}"
        )
    return asked


def _why_not(asked: str) -> str:
    if asked == RERANKER:
        return (
            " (A reranker's config.json names an architecture that ends in "
            "ForSequenceClassification and the labels in id2label, or modules.json a LogitScore.)"
        )
    if asked == SPARSE:
        return (
            " (A sparse encoder's modules.json has a SpladePooling, a SparseAutoEncoder or a "
            "SparseStaticEmbedding; without modules.json, config.json names an architecture that "
            "ends in ForMaskedLM. Others become one by training.)"
        )
    return ""


def is_stanford_colbert(source: Source) -> bool:
    """Whether config.json names the architecture of Stanford's ColBERT."""
    return is_first(read_config(source, ""), "HF_ColBERT")


def _stated(source: Source) -> str | None:
    name = "config_sentence_transformers.json"
    content: dict[str, Any] = source.read_json(name) if source.has(name) else {}
    stated = content.get("model_type")
    if stated is None or stated == KINDS[EMBEDDING].reference:
        return MULTI_VECTOR if any(key in content for key in _PYLATE_SETTINGS) else None
    if stated == "ColBERT":  # PyLate's name
        return MULTI_VECTOR
    for name, kind in KINDS.items():
        if kind.reference == stated:
            return name
    listed = ", ".join(kind.reference for kind in KINDS.values() if kind.loader)
    raise UnsupportedOperation(f"{source} is a {stated}; core runs the kinds {listed}.")


def _by_modules(source: Source) -> str:
    types = module_types(source)
    for _, kind, _ in types:
        if kind in _MODULES:
            return _MODULES[kind]
    for package, _, _ in types:
        for part, kind in _PACKAGES.items():
            if part in package.split("."):
                return kind
    if types[0][1] == "Router":
        return _by_router(source, types[0][2])
    _, _, folder = types[0]
    task = transformer_task(source, f"{folder}/" if folder else "")
    return _TASKS.get(task, EMBEDDING)


def _by_router(source: Source, folder: str) -> str:
    """The kind of a model whose modules stand in router_config.json, where that is readable."""
    try:
        types = router_types(source, folder)
    except ModelFormatError:
        return EMBEDDING
    return next((_MODULES[name] for _, name, _ in types if name in _MODULES), EMBEDDING)
