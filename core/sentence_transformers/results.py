"""Embeddings in the reference's return types."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.distributed.pool import ProcessPool
from core.errors import OptionError
from core.models.embedding import EmbeddingModel
from core.models.model import Model
from core.options import EncodeOptions
from core.sentence_transformers.inputs import texts_of
from core.sentence_transformers.tensors import as_tensor
from core.texts.inputs import check_texts, choose_prompt

#: What a tensor keeps of a model's dtype; an array cannot be bfloat16.
_HALF = ("float16", "bfloat16")


def encode(
    model: EmbeddingModel,
    inputs: Any,
    options: dict[str, Any],
    *,
    convert_to_numpy: bool,
    convert_to_tensor: bool,
    pool: ProcessPool | None,
) -> Any:
    """One call of `SentenceTransformer.encode`; `options` are core's.

    Returns:
        By default float32 [texts, dimension], or [dimension] of one text; float16 of a torch
        model that computes in it. `convert_to_tensor=True`: the same as a tensor, bfloat16 too.
        Neither: a list of tensors. `output_value="token_embeddings"`: a list of tensors
        [tokens, hidden]. `output_value=None`: a dictionary for each text.
    """
    texts, single = texts_of(inputs)
    output_value = options.pop("output_value")
    options["truncate_dim"] = _at_most(options["truncate_dim"], model)
    half = half_of(model) if options["precision"] == "float32" else None
    run = model if pool is None else pool
    result: Any
    if output_value in (None, "token_embeddings") and options["precision"] != "float32":
        raise OptionError(
            f"precision={options['precision']!r} quantizes sentence embeddings, and "
            f"output_value={output_value!r} asks for more: leave one of them out."
        )
    if output_value is None:
        result = everything(model, texts, options)
    elif output_value == "token_embeddings":
        options["normalize_embeddings"] = False
        rows = run.encode(texts, output_value=output_value, **options)
        result = [as_tensor(row, dtype=half_of(model)) for row in rows]
    else:
        result = run.encode(
            texts, output_value=output_value, convert_to_tensor=convert_to_tensor, **options
        )
        if convert_to_tensor:
            result = as_tensor(result, dtype=half)
        elif not convert_to_numpy:
            result = [as_tensor(row, dtype=half) for row in result]
        elif half == "float16":
            result = result.astype(np.float16)
    return result[0] if single else result


def _at_most(truncate_dim: Any, model: EmbeddingModel) -> Any:
    """No more dimensions than there are, where the reference keeps all of them."""
    if truncate_dim is None or not isinstance(truncate_dim, int | np.integer):
        return truncate_dim
    return min(truncate_dim, model.full_dimension)


def half_of(model: Model) -> str | None:
    """The half dtype that torch computes in; None for float32 and for other runtimes.

    Graphs with half weights return float32, in the reference as well.
    """
    if getattr(model.runtime, "tensor_device", None) is None or model.dtype not in _HALF:
        return None
    return model.dtype


def everything(model: EmbeddingModel, texts: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Sentence embedding, token embeddings and tokens of each text, without padding.

    The text runs twice: backends return sentence or token embeddings.
    """
    plain = {**options, "normalize_embeddings": False}
    rows = check_texts(texts)
    prompt = choose_prompt(
        EncodeOptions(prompt=options["prompt"], prompt_name=options["prompt_name"]),
        model.prompts,
        model.default_prompt_name,
    )
    ids = model.tokenizer.encode([prompt + text for text in rows]) if rows else None
    sentences = model.encode(rows, **plain)
    plain["truncation"] = None  # said once
    tokens = model.encode(rows, output_value="token_embeddings", **plain)
    dtype = half_of(model)
    found: list[dict[str, Any]] = []
    start = 0
    for row, sentence in enumerate(sentences):
        assert ids is not None
        end = start + int(ids.lengths[row])
        input_ids = ids.ids[start:end].astype(np.int64)
        start = end
        found.append(
            {
                "input_ids": as_tensor(input_ids),
                "attention_mask": as_tensor(np.ones_like(input_ids)),
                "modality": "text",
                "token_embeddings": as_tensor(tokens[row], dtype=dtype),
                "sentence_embedding": as_tensor(sentence, dtype=dtype),
            }
        )
    return found
