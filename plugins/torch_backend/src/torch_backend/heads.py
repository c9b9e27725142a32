"""Heads on the transformer: which class of transformers has them, and what they give.

A classification head is part of the class. A `LogitScore` needs two rows of a language model's
output layer, at one token of each text: the layer computes only those, so that no logits of a whole
vocabulary exist.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from core import Architecture, Checkpoint
from core.errors import UnsupportedOperation
from core.toolkit import MaskedLanguageHead
from torch_backend.pooled_logits import logits_of, output_layer, pool_early

#: What a head is built for, to transformers' class of such models.
AUTO_CLASSES: Mapping[str, str] = {
    "sequence-classification": "AutoModelForSequenceClassification",
    "text-generation": "AutoModelForCausalLM",
    "fill-mask": "AutoModelForMaskedLM",
}


def auto_class(architecture: Architecture) -> str | None:
    """transformers' class that has the architecture's head; None where it has none."""
    return None if architecture.head is None else AUTO_CLASSES[architecture.head.task]


def check_head(source: Checkpoint, module: torch.nn.Module, architecture: Architecture) -> None:
    """Refuse a model without the output layer that the head reads, and prepare that layer.

    Raises:
        UnsupportedOperation: A language model whose logits come from something else.
    """
    head = architecture.head
    if isinstance(head, MaskedLanguageHead):
        pool_early(module, architecture)
    if head is None or head.task != "text-generation":
        return
    layer = output_layer(module)
    if not isinstance(layer, torch.nn.Linear):
        raise UnsupportedOperation(
            f"{source} is a {type(module).__name__}, whose output layer is {type(layer).__name__} "
            "and not linear: core cannot read two of its logits."
        )
    tokens = [head.true_token, head.false_token]  # type: ignore[attr-defined]
    rows = [token for token in tokens if token is not None]
    if max(rows) >= layer.out_features:
        raise UnsupportedOperation(
            f"{source}: its LogitScore reads the logit of token {max(rows)}, and the model has "
            f"{layer.out_features} tokens. They belong to different models."
        )
    layer.forward = ScoredTokens(layer, rows)  # type: ignore[method-assign, assignment]


class ScoredTokens:
    """The forward of an output layer for a few tokens, after each text's last one.

    Inside `at_last_tokens` it takes hidden states [batch, tokens, hidden] and gives logits
    [batch, 1, rows]; elsewhere it is the layer's own.
    """

    def __init__(self, layer: torch.nn.Linear, rows: list[int]) -> None:
        self._layer, self._rows = layer, rows
        self._mask = threading.local()
        self._constant: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer = self._layer
        mask = getattr(self._mask, "value", None)
        if mask is None:
            return torch.nn.functional.linear(x, layer.weight, layer.bias)
        # The running count is at its highest from the last token on.
        last = torch.cumsum(mask, dim=1).argmax(dim=1)
        index = last[:, None, None].expand(-1, 1, x.shape[-1])
        weight, bias = self._constant or self._selected()
        return torch.nn.functional.linear(torch.gather(x, 1, index), weight, bias)

    @contextmanager
    def at_last_tokens(self, mask: torch.Tensor) -> Iterator[None]:
        """Compute at the last token of each row of this mask, on this thread."""
        self._mask.value = mask
        try:
            yield
        finally:
            self._mask.value = None

    @contextmanager
    def as_constants(self) -> Iterator[None]:
        """Have a tracer see the few rows as constants and not the whole layer."""
        self._constant = self._selected()
        try:
            yield
        finally:
            self._constant = None

    def _selected(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        layer = self._layer
        bias = None if layer.bias is None else layer.bias.detach()[self._rows].clone()
        return layer.weight.detach()[self._rows].clone(), bias

    def __deepcopy__(self, memo: dict[int, Any]) -> ScoredTokens:
        copied = memo.get(id(self._layer))
        return ScoredTokens(self._layer if copied is None else copied, list(self._rows))


def scored_tokens(module: torch.nn.Module) -> ScoredTokens | None:
    """What `check_head` put into a language model; None for other models."""
    forward = getattr(output_layer(module), "forward", None)
    return forward if isinstance(forward, ScoredTokens) else None


def head_scores(run: Any, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> Any:
    """The scores [batch, labels] of a batch.

    Args:
        run: What to call: the module, or a compiled form of it.
        inputs: int64 [batch, tokens] by name, `attention_mask` among them for a language model.
    """
    scored = scored_tokens(module)
    if scored is None:
        return logits_of(run(**inputs))
    with scored.at_last_tokens(inputs["attention_mask"]):
        logits = logits_of(run(**inputs))[:, -1]
    return logits if logits.shape[1] == 1 else logits[:, :1] - logits[:, 1:]
