"""What a hook may return: each check says what is wrong with a result, or None."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.architecture.kinds import EMBEDDING, MULTI_VECTOR, RERANKER, SPARSE
from core.arguments import check_prompts
from core.artifacts.artifact import Artifact
from core.engine.sparse import SparseEmbeddings
from core.errors import ModelFormatError, OptionError
from core.files.files import LocalFiles
from core.files.paths import check_relative
from core.models.model import Model
from core.operations.file_choice import find_artifacts
from core.options import DENSE, EncodeOptions, check_positive
from core.options import SPARSE as SPARSE_OUTPUT

Check = Callable[[Any], str | None]

_SHOWN_POSITIONS = 5


def check_instance(kind: type) -> Check:
    """Whether the result is a `kind`."""
    article = "an" if kind.__name__[0] in "AEIOU" else "a"

    def check(result: Any) -> str | None:
        if isinstance(result, kind):
            return None
        return f"returned {type(result).__name__}, not {article} {kind.__name__}"

    return check


def check_loaded(kind: type) -> Check:
    """Whether the result is a model of this class, with settings that it can have."""

    def check(result: Any) -> str | None:
        return check_instance(kind)(result) or _wrong_setting(result)

    return check


def _wrong_setting(model: Any) -> str | None:
    """The first setting that a user could not have set, and why."""
    try:
        check_prompts(model.prompts)
        for name in ("known_dimension", "truncate_dim"):
            check_positive(name.removeprefix("known_"), getattr(model, name, None))
        if hasattr(model, "similarity_fn_name"):
            model.similarity_fn_name = model.similarity_fn_name  # the setter knows the names
    except OptionError as error:
        return f"returned a model whose {str(error).removesuffix('.')}"
    return None


def check_artifact(result: Any, staging: Path) -> str | None:
    """An Artifact whose files lie in the staging directory."""
    if not isinstance(result, Artifact):
        return f"returned {type(result).__name__}, not an Artifact"
    wrong = _wrong_field(result)
    if wrong is not None:
        return f"returned an Artifact whose {wrong}"
    for name in result.all_files:
        try:
            check_relative(name, "a file of the artifact")
        except ModelFormatError:
            return f"named {name!r} as a file, which is outside its staging directory"
    missing = [name for name in result.all_files if not (staging / name).is_file()]
    return f"did not write {', '.join(missing)}" if missing else None


def _wrong_field(artifact: Artifact) -> str | None:
    """The first field that cannot be written down, and why."""
    for name in ("file_name", "precision"):
        text = getattr(artifact, name)
        if not isinstance(text, str):
            return f"{name} is {text!r:.100}, not a text"
    for name in ("files", "refers_to"):
        names = getattr(artifact, name)
        if not isinstance(names, tuple | list) or not all(isinstance(n, str) for n in names):
            return f"{name} is {names!r:.100}, not a tuple of names"
    for name in ("config", "versions"):
        try:
            stated = dict(getattr(artifact, name))
            json.dumps(stated, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            return f"{name} is no plain JSON object: {error}"
    return None


def check_saved(result: Any, model: Model, staging: Path) -> str | None:
    """The staging directory's path, and in it the weights: writing those is the hook's part."""
    wrong = check_instance(Path)(result)
    capabilities = model.hooks.capabilities
    if wrong is not None or not capabilities.file_names:
        return wrong
    architecture = model.source.architecture
    if architecture.is_static:  # its table is a part of the configuration
        return None
    names = LocalFiles(staging).names()
    if model.file_name in names:
        missing = [name for name in model.weight_files if name not in names]
    elif find_artifacts(names, capabilities, architecture.path):  # under a name of its own
        missing = []
    else:
        missing = [model.file_name or " or ".join(capabilities.file_names)]
    if not missing:
        return None
    return (
        f"did not write {', '.join(missing)}, without which the model does not load; "
        "model.copy_weights(target) copies what it was loaded from"
    )


def check_encoded(model: Model, count: int, options: EncodeOptions) -> Check:
    """What the `encode` hook may return for `count` inputs of this model."""
    return _ENCODED[model.kind](model, count, options)


def _check_embedding(model: Any, count: int, options: EncodeOptions) -> Check:
    if options.outputs is not None:
        return functools.partial(
            check_outputs, names=options.outputs, count=count, dimension=model.known_dimension
        )
    if options.output_value == "token_embeddings":
        return functools.partial(check_token_embeddings, count=count)
    return functools.partial(check_embeddings, count=count, dimension=model.known_dimension)


def _check_scores(model: Any, count: int, options: EncodeOptions) -> Check:
    return functools.partial(
        check_embeddings, count=count, dimension=len(model.labels), what="scores"
    )


def _check_vectors(model: Any, count: int, options: EncodeOptions) -> Check:
    return functools.partial(check_token_vectors, count=count, dimension=model.dimension)


def _check_sparse(model: Any, count: int, options: EncodeOptions) -> Check:
    return functools.partial(check_sparse, count=count, dimension=model.dimension or None)


#: Kind of model to the check of what its `encode` hook returns.
_ENCODED: Mapping[str, Callable[[Any, int, EncodeOptions], Check]] = {
    EMBEDDING: _check_embedding,
    RERANKER: _check_scores,
    MULTI_VECTOR: _check_vectors,
    SPARSE: _check_sparse,
}


def check_embeddings(
    result: Any, count: int, dimension: int | None, what: str = "embeddings"
) -> str | None:
    """A writable, finite float32 array [count, dimension]; None for any dimension."""
    if type(result) is not np.ndarray:  # a matrix or a masked array computes otherwise
        plain = "plain " if isinstance(result, np.ndarray) else ""
        return f"returned {type(result).__name__}, not a {plain}numpy array"
    if result.ndim != 2 or len(result) != count:
        return f"returned shape {list(result.shape)} for {count} texts, not [{count}, d]"
    if dimension is not None and result.shape[1] != dimension:
        width = f"{result.shape[1]} dimensions" if what == "embeddings" else result.shape[1]
        of = f"{what} of {width}" if what == "embeddings" else f"{width} {what} for each pair"
        return f"returned {of}; the model has {dimension}"
    if result.dtype != np.float32:
        return f"returned {result.dtype}, not float32"
    if not result.flags.writeable:
        return "returned a read-only array; callers own their results"
    # The sum of squares is cheap and, unlike a plain sum, warns of nothing. It is finite unless a
    # value is bad or huge; only then is every row looked at.
    if not math.isfinite(np.vdot(result, result)):
        bad = np.flatnonzero(~np.isfinite(result).all(axis=1))
        if len(bad):
            shown = ", ".join(map(str, bad[:_SHOWN_POSITIONS]))
            more = ", ..." if len(bad) > _SHOWN_POSITIONS else ""
            return (
                f"returned NaN or infinity for {len(bad)} of {count} texts "
                f"(positions {shown}{more})"
            )
    return None


def check_outputs(
    result: Any, names: Sequence[str], count: int, dimension: int | None
) -> str | None:
    """A mapping of the kinds of embeddings asked for."""
    if not isinstance(result, dict) or tuple(result) != tuple(names):
        found = ", ".join(map(str, result)) if isinstance(result, dict) else type(result).__name__
        return f"returned {found}, not a dictionary with {', '.join(names)}"
    for name, value in result.items():
        if name == DENSE:
            fault = check_embeddings(value, count, dimension)
        elif name == SPARSE_OUTPUT:
            whole = isinstance(value, SparseEmbeddings) and len(value) == count
            fault = None if whole else f"returned no SparseEmbeddings of {count} texts"
            if whole and not np.isfinite(value.values).all():
                fault = "returned NaN or infinity"
        else:
            fault = check_token_embeddings(value, count)
            if fault is None and not all(math.isfinite(np.vdot(row, row)) for row in value):
                fault = "returned NaN or infinity"
        if fault is not None:
            return f"{fault} (of its {name} embeddings)"
    return None


def check_token_embeddings(result: Any, count: int) -> str | None:
    """A list of `count` float32 arrays [tokens, hidden]."""
    if not isinstance(result, list) or len(result) != count:
        found = f"{len(result)} items" if isinstance(result, list) else type(result).__name__
        return f"returned {found}, not a list of {count} arrays"
    for position, row in enumerate(result):
        if type(row) is not np.ndarray or row.ndim != 2 or row.dtype != np.float32:
            return f"returned something other than float32 [tokens, hidden] at position {position}"
    return None


def check_token_vectors(result: Any, count: int, dimension: int | None) -> str | None:
    """A list of `count` writable, finite float32 arrays [tokens, dimension]."""
    wrong = check_token_embeddings(result, count)
    if wrong is not None:
        return wrong
    widths = {row.shape[1] for row in result if len(row)} | ({dimension} if dimension else set())
    if len(widths) > 1:
        found = ", ".join(map(str, sorted(widths - {dimension} if dimension else widths)))
        has = f"the model has {dimension}" if dimension else "all vectors have the same"
        return f"returned vectors of {found} dimensions; {has}"
    for position, row in enumerate(result):
        if not row.flags.writeable:
            return "returned a read-only array; callers own their results"
        if not math.isfinite(np.vdot(row, row)) and not np.isfinite(row).all():
            return f"returned NaN or infinity for the text at position {position}"
    return None


def check_sparse(result: Any, count: int, dimension: int | None) -> str | None:
    """Finite `SparseEmbeddings` [count, dimension]; None for any dimension."""
    if not isinstance(result, SparseEmbeddings):
        return f"returned {type(result).__name__}, not core.SparseEmbeddings"
    if len(result) != count:
        return f"returned {len(result)} embeddings for {count} texts"
    if dimension is not None and result.shape[1] != dimension:
        return f"returned embeddings of {result.shape[1]} dimensions; the model has {dimension}"
    bad = ~np.isfinite(result.values)
    if bad.any():
        row = int(np.searchsorted(result.indptr, int(np.argmax(bad)), side="right")) - 1
        return f"returned NaN or infinity for the text at position {row}"
    return None
