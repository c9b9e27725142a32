"""Calibration texts as batches, cut as `encode` cuts them, so that ranges come from real shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from core.architecture.batch import TokenBatch
from core.engine.batching import cut_batches
from core.engine.limits import check_tokens, padding_id
from core.engine.runtime import Runtime
from core.errors import OptionError
from core.tokenizer.tokenizer import Tokenizer

#: Small batches: calibrators keep the statistics of each, and many shapes are seen.
_BATCH_TOKENS = 512


class Prompted(Protocol):
    """What calibration needs of a model."""

    prompts: dict[str, str]
    default_prompt_name: str | None

    @property
    def tokenizer(self) -> Tokenizer: ...

    def as_inputs(self, texts: Sequence[Any]) -> Sequence[Any]: ...

    def with_prompt(self, rows: Sequence[Any], prompt: str) -> Sequence[Any]: ...


def calibration_batches(model: Prompted, texts: Sequence[Any]) -> list[TokenBatch]:
    """The texts, with the model's default prompt in front, as padded batches.

    Raises:
        OptionError: Not one of the texts holds a token, or one has more than the model's positions.
        ModelFormatError: One has a token that the model has no embedding for.
    """
    tokenizer, prompts = model.tokenizer, model.prompts
    prompt = _prompt(prompts, model.default_prompt_name)
    tokenized = tokenizer.encode(model.with_prompt(model.as_inputs(texts), prompt))
    if not tokenized.lengths.sum():
        raise OptionError("The calibration texts are empty: give a few hundred real ones.")
    runtime, pad_id, equal_lengths = getattr(model, "runtime", None), tokenizer.pad_id, False
    if isinstance(runtime, Runtime):
        check_tokens(runtime, tokenizer, tokenized)
        pad_id, equal_lengths = padding_id(runtime, tokenizer), runtime.equal_lengths
    batches = cut_batches(
        tokenized,
        batch_tokens=_BATCH_TOKENS,
        batch_size=None,
        pad_id=pad_id,
        padding_side="right",
        equal_lengths=equal_lengths,
    )
    return [batch for _, batch in batches]


def _prompt(prompts: Mapping[str, str], default: str | None) -> str:
    return prompts.get(default, "") if default is not None else ""
