"""Texts with more tokens than their model reads: reported before they are cut."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from core.errors import OptionError, UnsupportedOperation
from core.options import EncodeOptions
from core.texts.inputs import choose_prompt
from core.tokenizer.tokenizer import Tokenizer

logger = logging.getLogger("core")

_SHOWN_POSITIONS = 5


class Tokenizing(Protocol):
    """What is asked of a model."""

    prompts: dict[str, str]
    default_prompt_name: str | None

    @property
    def has_tokenizer(self) -> bool: ...

    def cutting_tokenizer(self, options: EncodeOptions) -> Tokenizer: ...

    def limit_name(self, options: EncodeOptions) -> str: ...

    def with_prompt(self, rows: Sequence[Any], prompt: str) -> Sequence[Any]: ...


def check_truncation(
    model: Tokenizing, texts: Sequence[Any], options: EncodeOptions, start: int = 0
) -> None:
    """Do what `options.truncation` asks for with the texts that `encode` would cut.

    Args:
        texts: Without their prompt, which counts.
        start: The position of the first of them, for the message.

    Raises:
        OptionError: There are some, and `truncation` is "error".
        UnsupportedOperation: The model takes text, so only its backend knows how much it reads.
    """
    if options.truncation in (None, "cut"):
        return
    if not model.has_tokenizer:
        raise UnsupportedOperation(
            f"truncation={options.truncation!r} needs the model's tokenizer, and this backend "
            "takes text: it cuts long ones by itself. Leave truncation out."
        )
    prompt = choose_prompt(options, model.prompts, model.default_prompt_name)
    tokenizer = model.cutting_tokenizer(options)
    positions, counts = tokenizer.find_cut(model.with_prompt(texts, prompt))
    if not len(positions):
        return
    shown = ", ".join(
        f"{start + position} ({count:,} tokens)"
        for position, count in zip(
            positions[:_SHOWN_POSITIONS].tolist(), counts[:_SHOWN_POSITIONS].tolist(), strict=True
        )
    )
    more = ", ..." if len(positions) > _SHOWN_POSITIONS else ""
    many = len(positions) > 1
    found = (
        f"{len(positions)} of {len(texts)} texts {'have' if many else 'has'} more tokens than the "
        f"{tokenizer.max_length} that the model reads ({model.limit_name(options)}): "
        f"{'positions' if many else 'position'} {shown}{more}."
    )
    if options.truncation == "error":
        raise OptionError(
            f"{found} Embed them in parts, or pass truncation='cut' to embed what fits."
        )
    logger.warning("%s The rest of each is left out.", found)
