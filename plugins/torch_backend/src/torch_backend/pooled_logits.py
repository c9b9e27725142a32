"""SPLADE's head: the logits of a masked language model, pooled as they are computed.

Of 1,000 tokens and 30,000 words the logits take 120 MB, and of each word one number remains. A part
of the vocabulary is computed and pooled at a time, so that a batch never holds more than a tenth of
them, and what it holds stays in the processor's cache.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from core import Architecture
from core.toolkit import SpladePooling
from torch_backend.kernels.blocked_weights import use_blocked_weights

#: Words of the vocabulary computed at a time.
PART_WORDS = 4_096
#: Tokens at a time, of layers that compute the whole vocabulary at once.
_PART_TOKENS = 256
#: Tokens of the two texts that tell whether pooling early changes anything.
_PROBE_TOKENS = 4


class PooledLogits:
    """The forward of an output layer that pools its logits.

    Inside `pooling_tokens` it takes hidden states [batch, tokens, hidden] and gives weights [batch,
    1, vocabulary]; elsewhere it is the layer's own.

    Args:
        layer: A linear layer; any other kind computes a few tokens at a time.
        pooling: What is made of the logits.

    Attributes:
        copied_rows: Most tokens at once that take a copy of the weights, which makes them faster.
    """

    def __init__(self, layer: torch.nn.Module, pooling: SpladePooling) -> None:
        self._layer, self._pooling = layer, pooling
        self.copied_rows = 0.0
        self._here = threading.local()
        self._parts: tuple[Any, list[torch.nn.Module]] | None = None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        mask = getattr(self._here, "mask", None)
        if mask is None:
            result: torch.Tensor = type(self._layer).forward(self._layer, x)
            return result
        self._here.called = True
        mask = mask.to(x.dtype)
        if type(self._layer) is torch.nn.Linear:
            pooled = self._by_words(x, mask)
        else:
            pooled = self._by_tokens(x, mask)
        return pooled[:, None]

    @property
    def called(self) -> bool:
        """Whether the model has called the layer inside the last `pooling_tokens` of this
        thread."""
        return bool(getattr(self._here, "called", False))

    @contextmanager
    def pooling_tokens(self, mask: torch.Tensor) -> Iterator[None]:
        """Pool over the tokens of this mask, on this thread."""
        self._here.mask, self._here.called = mask, False
        try:
            yield
        finally:
            self._here.mask = None

    def _by_words(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        pooling = self._pooling
        if pooling.strategy == "sum":
            parts = [
                (mask[:, None, :] @ pooling.weights(torch, part(x)))[:, 0] for part in self.parts
            ]
            return torch.cat(parts, dim=1)
        # A text's first token in the place of its padding leaves the maximum as it is: one pass
        # over the hidden states instead of one over the logits.
        first = mask.argmax(dim=1)[:, None, None].expand(-1, 1, x.shape[-1])
        x = torch.where(mask[:, :, None] > 0, x, torch.gather(x, 1, first))
        highest = torch.cat([part(x).amax(dim=1) for part in self.parts], dim=1)
        has_tokens = mask.amax(dim=1, keepdim=True)
        result: torch.Tensor = pooling.weights(torch, highest * has_tokens)
        return result

    def _by_tokens(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        step = max(_PART_TOKENS // max(len(x), 1), 1)
        result: torch.Tensor | None = None
        for start in range(0, x.shape[1], step):
            columns = slice(start, start + step)
            logits = type(self._layer).forward(self._layer, x[:, columns])
            part = self._pooling.pooled(torch, logits, mask[:, columns])
            if result is None:
                result = part
            elif self._pooling.strategy == "sum":
                result = result + part
            else:
                result = torch.maximum(result, part)
        assert result is not None
        return result

    @property
    def parts(self) -> list[torch.nn.Module]:
        """Linear layers of a part of the vocabulary each, over the layer's own weights."""
        layer: Any = self._layer
        weight, bias = layer.weight, layer.bias
        if torch.jit.is_tracing():  # type: ignore[no-untyped-call, attr-defined]
            return self._cut(weight.detach().clone(), None if bias is None else bias.clone())
        state = (weight.data_ptr(), weight.dtype, weight.device, self.copied_rows)
        kept = self._parts
        if kept is None or kept[0] != state:
            made = self._cut(weight.detach(), bias)
            if weight.dtype is torch.float32 and weight.device.type == "cpu":
                use_blocked_weights(torch.nn.ModuleList(made), self.copied_rows)
            kept = self._parts = (state, made)
        return kept[1]

    def _cut(self, weight: torch.Tensor, bias: torch.Tensor | None) -> list[torch.nn.Module]:
        made: list[torch.nn.Module] = []
        for start in range(0, len(weight), PART_WORDS):
            words = slice(start, start + PART_WORDS)
            part = torch.nn.Linear(1, 1, bias=bias is not None, device="meta")
            part.out_features, part.in_features = weight[words].shape
            part.weight = torch.nn.Parameter(weight[words], requires_grad=False)
            if bias is not None:
                part.bias = torch.nn.Parameter(bias.detach()[words], requires_grad=False)
            made.append(part)
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> PooledLogits:
        copied = memo.get(id(self._layer))
        made = PooledLogits(self._layer if copied is None else copied, self._pooling)
        made.copied_rows = self.copied_rows
        return made


def pool_early(module: torch.nn.Module, architecture: Architecture) -> None:
    """Put a `PooledLogits` into a masked language model, where that changes nothing.

    Some models add to the logits that their output layer gives, or compute them without it.
    """
    layer = output_layer(module)
    if not isinstance(layer, torch.nn.Module):
        return
    pooling = pooling_of(architecture)
    layer.forward = PooledLogits(layer, pooling)
    if not _agrees(module, layer, pooling):
        del layer.forward


def pooling_of(architecture: Architecture) -> SpladePooling:
    """What is made of the logits."""
    (pooling,) = architecture.modules
    assert isinstance(pooling, SpladePooling)
    return pooling


def pooled_logits(module: torch.nn.Module) -> PooledLogits | None:
    """What `pool_early` put into a model; None for other models."""
    forward = getattr(output_layer(module), "forward", None)
    return forward if isinstance(forward, PooledLogits) else None


def output_layer(module: torch.nn.Module) -> Any:
    """What gives the logits; None where the model names none."""
    get = getattr(module, "get_output_embeddings", None)
    return get() if callable(get) else None


def splade_weights(
    run: Any,
    inputs: Mapping[str, torch.Tensor],
    pooling: SpladePooling,
    pooled: PooledLogits | None,
) -> torch.Tensor:
    """The weights [batch, vocabulary] of a batch.

    Args:
        run: What to call: the module, or another form of it.
        inputs: int64 [batch, tokens] by name.
        pooled: Of the module; None to pool whole logits.
    """
    mask = inputs.get("attention_mask")
    if mask is None:
        mask = torch.ones_like(inputs["input_ids"])
    if pooled is None:
        logits = logits_of(run(**inputs))
        result: torch.Tensor = pooling.pooled(torch, logits, mask.to(logits.dtype))
        return result
    with pooled.pooling_tokens(mask):
        weights: torch.Tensor = logits_of(run(**inputs))[:, 0]
    return weights


def _agrees(module: torch.nn.Module, layer: torch.nn.Module, pooling: SpladePooling) -> bool:
    """Whether two short texts have the same weights both ways."""
    forward = layer.forward
    assert isinstance(forward, PooledLogits)
    device = next(module.parameters()).device
    ids = torch.arange(2 * _PROBE_TOKENS, device=device).reshape(2, -1)
    mask = torch.ones_like(ids)
    mask[1, -1] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    was_training = module.training
    try:
        with torch.inference_mode():
            module.eval()
            expected = splade_weights(module, inputs, pooling, None)
            with forward.pooling_tokens(mask):
                given = logits_of(module(**inputs))
            early = given[:, 0]
    except Exception:  # of another's code: it takes or gives something else
        return False
    finally:
        module.train(was_training)
    if not forward.called or given.shape[1] != 1 or early.shape != expected.shape:
        return False
    tolerance = 1e-4 if expected.dtype is torch.float32 else 2e-2
    return bool(torch.allclose(early, expected, rtol=tolerance, atol=tolerance))


def logits_of(output: Any) -> Any:
    """The logits in what a model with a head returns: an object, or a tuple they come first in."""
    found = getattr(output, "logits", None)
    return output[0] if found is None else found
