"""Padded batches in, embeddings out, with no padding in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from core import TokenBatch
from core.toolkit import (
    Module,
    Pooling,
    follows_pooling,
    pad,
    run_modules,
    run_sentence_modules,
)
from torch_backend.packed.encoders import PackedEncoder
from torch_backend.packed.pooling import pool
from torch_backend.packed.recorded import Record, RecordedTexts
from torch_backend.packed.tokens import PackedTokens, pack, unpack
from torch_backend.transfers import Staging, copy_over


class PackedRunner:
    """An encoder over packed tokens, and the modules after it.

    Args:
        modules: The chain after the transformer, on the device.
        to_device: Moves a float32 array there.
        has_types: Whether the encoder has token types.
        record: Makes graphs for short single texts; None where these are computed as others are.
    """

    def __init__(
        self,
        encoder: PackedEncoder,
        modules: Sequence[Module],
        device: torch.device,
        to_device: Callable[[NDArray[np.float32]], torch.Tensor],
        *,
        has_types: bool,
        record: Record | None = None,
    ) -> None:
        self._encoder, self._modules = encoder, modules
        self._staging = Staging(device)
        self._to_device, self._has_types = to_device, has_types
        # Any other chain is computed on padded token embeddings.
        self._pooling: Pooling | None = None
        if modules and isinstance(modules[0], Pooling) and all(map(follows_pooling, modules[1:])):
            self._pooling = modules[0]
        self._recorded: RecordedTexts | None = None
        if record is not None and self._pooling is not None:
            self._recorded = RecordedTexts(self._embed, encoder.positions, device, record)
        self.attention = encoder.attention

    def hidden_states(self, batch: TokenBatch) -> torch.Tensor:
        """float32 [batch, tokens, hidden], zeros at padding."""
        return unpack(self._encoder(self._pack(batch)).float(), batch)

    def sentence_embeddings(self, batch: TokenBatch) -> torch.Tensor:
        """float32 [batch, dimension]."""
        if self._pooling is None:
            hidden = self.hidden_states(batch)
            pooled: torch.Tensor = run_modules(torch, self._modules, hidden, batch, self._to_device)
            return pooled
        recorded = None if self._recorded is None else self._recorded.embed(batch)
        return self._embed(self._pack(batch)) if recorded is None else recorded

    def _pack(self, batch: TokenBatch) -> PackedTokens:
        return pack(
            batch,
            self._staging,
            self._encoder.positions(batch),
            has_types=self._has_types,
            pools_prompt=self._pooling is None or self._pooling.include_prompt,
        )

    def _embed(self, tokens: PackedTokens) -> torch.Tensor:
        assert self._pooling is not None
        pooled = pool(self._encoder(tokens), tokens, self._pooling.modes)
        result: torch.Tensor = run_sentence_modules(torch, self._modules[1:], pooled)
        return result


#: Cosine of every token's state to that of padded batches, also in half precision.
_LEAST_COSINE = 0.99

#: Tokens of the probe's texts: alone, around sizes that kernels round to, beyond a window of 64.
_PROBE_LENGTHS = (1, 2, 5, 16, 33, 70, 150)
_PROBE_LIMIT = 32  # of models that state none


def probe_batch(vocabulary: int | None, max_length: int | None) -> TokenBatch:
    """Texts of seeded token ids that tell whether a kernel computes what it should."""
    lengths = np.minimum(_PROBE_LENGTHS, max_length or _PROBE_LIMIT).astype(np.int64)
    ids = np.random.default_rng(0).integers(0, vocabulary or 1, lengths.sum(), dtype=np.int32)
    return pad(ids, lengths, 0, "right")


def find_fault(
    runner: PackedRunner, batch: TokenBatch, padded: Callable[[TokenBatch], torch.Tensor]
) -> str | None:
    """What is wrong with packed hidden states, where these differ from `padded`; else None.

    Kernels depend on the GPU, the driver and the build of PyTorch: whatever one of them raises,
    padded batches still work.
    """
    try:
        found, expected = runner.hidden_states(batch), padded(batch)
        cosine = torch.nn.functional.cosine_similarity(found, expected, dim=-1)
        real = copy_over(torch.from_numpy(batch.attention_mask), cosine.device) > 0
        lowest = float(cosine[real].min())
    except Exception as error:
        return f"{runner.attention} raised {type(error).__name__}: {str(error).strip()[:200]}"
    if lowest >= _LEAST_COSINE:
        return None
    return f"those computed by {runner.attention} have a cosine of {lowest:.4f} to padded ones"
