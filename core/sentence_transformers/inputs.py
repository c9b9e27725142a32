"""What `encode` and `tokenize` are given: texts, in the forms the reference takes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.errors import OptionError
from core.texts.inputs import refuse_containers

logger = logging.getLogger("core")


def is_one(inputs: Any) -> bool:
    """Whether an input is one text rather than several."""
    if isinstance(inputs, list | tuple):
        return False
    if isinstance(inputs, np.ndarray):
        return inputs.ndim == 0 or inputs.dtype.kind not in "UO"
    return True


def texts_of(inputs: Any) -> tuple[Any, bool]:
    """The texts, and whether there is one alone. `{"text": "..."}` is a text, too.

    Raises:
        OptionError: Pairs, other kinds of dictionaries, tables; the message names the position.
    """
    if isinstance(inputs, str):
        return [inputs], True
    if isinstance(inputs, Mapping):
        return [_text_of(inputs, 0)], True
    if not isinstance(inputs, list | tuple):
        refuse_containers(inputs)
    rows = inputs if isinstance(inputs, list | tuple) or _is_no_rows(inputs) else list(inputs)
    if _is_no_rows(rows) or set(map(type, rows)) <= {str}:
        return rows, False
    return [_text_of(row, position) for position, row in enumerate(rows)], False


def _is_no_rows(inputs: Any) -> bool:
    # core.encode says what is wrong with it. An array without dimensions has __iter__ and no rows.
    none = not hasattr(inputs, "__iter__") or getattr(inputs, "ndim", 1) == 0
    return none or isinstance(inputs, bytes | bytearray | set)


def _text_of(row: Any, position: int) -> Any:
    if isinstance(row, list | tuple):
        raise OptionError(
            f"Input {position} is a {type(row).__name__} of {len(row)}, not a text. "
            "sentence-transformers hands a pair to the tokenizer as one input of two segments; "
            "core embeds one text. Join them with the model's own separator, or encode each."
        )
    if not isinstance(row, Mapping):
        return row
    if set(row) != {"text"}:
        raise OptionError(
            f"Input {position} is a dictionary with {', '.join(map(repr, row)) or 'nothing'}; core "
            "embeds texts: {'text': '...'}, or the text itself."
        )
    return row["text"]


#: `task` chooses a route through a model that has several, and no such model loads here.
_IGNORED = ("task",)


def check_extra(extra: Mapping[str, Any]) -> None:
    """Refuse what the reference would pass on to a model's own code or its tokenizer."""
    if extra.get("processing_kwargs"):
        raise OptionError(
            f"processing_kwargs={extra['processing_kwargs']!r}: core tokenizes every call alike. "
            "Set model.max_seq_length for another length."
        )
    unknown = sorted(set(extra) - {*_IGNORED, "processing_kwargs"})
    if unknown:
        raise OptionError(
            f"encode does not take {', '.join(map(repr, unknown))}. Arguments for a model's own "
            "code have no counterpart here."
        )


def one_prompt_name(prompt_name: str | None, prompt: str | None) -> str | None:
    """The name to choose a prompt by; of a name and a prompt the prompt counts, with a warning."""
    if prompt is None or prompt_name is None:
        return prompt_name
    logger.warning(
        "prompt and prompt_name are both given: prompt=%r is used, not the prompt %r.",
        prompt,
        prompt_name,
    )
    return None


def one_input(new: str, inputs: Any, old: str, given: dict[str, Any]) -> Any:
    """The texts, which older releases call otherwise."""
    older = given.pop(old, None)
    if inputs is None and older is None:
        raise OptionError(f"encode needs texts: encode({new}).")
    return older if inputs is None else inputs
