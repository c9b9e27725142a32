"""`encode` with the reference's arguments and return types."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.errors import OptionError
from core.inputs import check_texts, choose_prompt
from core.model import EmbeddingModel
from core.options import EncodeOptions
from core.pool import ProcessPool
from core.sentence_transformers.arguments import as_tensor


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
        By default float32 [texts, dimension], or [dimension] of one text.
        `convert_to_tensor=True`: the same as a tensor. Neither: a list of tensors.
        `output_value="token_embeddings"`: a list of tensors [tokens, hidden].
        `output_value=None`: a dictionary for each text.
    """
    output_value = options.pop("output_value")
    single = isinstance(inputs, str)
    texts = [inputs] if single else inputs
    result: Any
    if output_value is None:
        result = everything(model, texts, options)
    elif output_value == "token_embeddings":
        options["precision"], options["normalize_embeddings"] = "float32", False
        run = model if pool is None else pool
        result = [as_tensor(row) for row in run.encode(texts, output_value=output_value, **options)]
    else:
        run = model if pool is None else pool
        result = run.encode(
            texts, output_value=output_value, convert_to_tensor=convert_to_tensor, **options
        )
        if not convert_to_tensor and not convert_to_numpy:
            result = [as_tensor(row) for row in result]
    return result[0] if single else result


def everything(model: EmbeddingModel, texts: Any, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Sentence embedding, token embeddings and tokens of each text, without padding.

    The text runs twice: backends return sentence or token embeddings.
    """
    plain = {**options, "precision": "float32", "normalize_embeddings": False}
    rows = check_texts(texts)
    prompt = choose_prompt(
        model, EncodeOptions(prompt=options["prompt"], prompt_name=options["prompt_name"])
    )
    ids = model.tokenizer.encode([prompt + text for text in rows]) if rows else None
    sentences = model.encode(rows, **plain)
    tokens = model.encode(rows, output_value="token_embeddings", **plain)
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
                "token_embeddings": as_tensor(tokens[row]),
                "sentence_embedding": as_tensor(sentence),
            }
        )
    return found


def check_extra(extra: dict[str, Any]) -> None:
    """Refuse what the reference would pass on to a model's own code."""
    if extra:
        raise OptionError(
            f"encode does not take {', '.join(map(repr, sorted(extra)))}. Arguments for a model's "
            "own code have no counterpart here."
        )
