"""Calibration texts as the batches ONNX Runtime's calibration reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from core import EmbeddingModel
from core.engine.batching import cpu_batch_tokens, cut_batches
from core.errors import OptionError
from core.machine.cpus import available_cpus
from onnx_backend.graph import Graph


class TextReader:
    """Gives one feed a call, then None: the protocol of ONNX Runtime's CalibrationDataReader.

    Batches are cut as `encode` cuts them, so that ranges come from shapes that will run.
    """

    def __init__(self, model: EmbeddingModel, graph: Graph, texts: Sequence[str]) -> None:
        tokenizer = model.tokenizer
        prompt = model.prompts.get(model.default_prompt_name or "", "")
        tokenized = tokenizer.encode([prompt + text for text in texts])
        if not tokenized.lengths.sum():
            raise OptionError("The calibration texts are empty: give a few hundred real ones.")
        batches = cut_batches(
            tokenized,
            batch_tokens=cpu_batch_tokens(model.source.architecture.config, available_cpus()),
            batch_size=None,
            pad_id=tokenizer.pad_id,
            padding_side=tokenizer.padding_side,
        )
        self._feeds = [graph.feed(batch) for _, batch in batches]
        self._next = iter(self._feeds)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch's arrays by input name, or None at the end."""
        return next(self._next, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Give these batches only, from the first of them."""
        self._next = iter(self._feeds[start_index:end_index])

    def __len__(self) -> int:
        return len(self._feeds)
