"""How many tokens a GPU gets at once: what it computes in a few milliseconds, and no more than its
memory holds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TypeVar

import torch

from core import TokenBatch

logger = logging.getLogger("core")

#: A batch should take about so long: starting one takes a tenth of it.
_BATCH_SECONDS = 0.01

#: Operations of one multiprocessor in a cycle, by compute capability: half precision in its tensor
#: cores, from NVIDIA's architecture papers, and float32. The last that is not above the device's.
_OPERATIONS = {
    (7, 0): (1_024, 128),
    (8, 0): (2_048, 128),
    (8, 6): (1_024, 256),
    (9, 0): (4_096, 256),
    (10, 0): (8_192, 256),
    (12, 0): (1_024, 256),
}
#: Cycles a second, and what part of the operations an encoder reaches.
_CLOCK = 1.5e9
_REACHED = 0.4

_HALF = (torch.float16, torch.bfloat16)

#: Fewer do not fill a GPU; more bring nothing.
_LEAST_TOKENS, _MOST_TOKENS = 8_192, 131_072

#: A batch may take this part of the memory that is free when the model is loaded.
_MEMORY_SHARE = 0.25
#: Hidden states and feed-forward states alive at once, in numbers of each token.
_HIDDEN_STATES, _INNER_STATES = 8, 2

Result = TypeVar("Result")


def gpu_batch_tokens(module: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> int:
    """Tokens that a CUDA device computes in about 10 ms, a power of two.

    Args:
        module: The transformer; the sizes of its linear layers tell its work and memory.
    """
    capability = torch.cuda.get_device_capability(device)
    known = [numbers for least, numbers in _OPERATIONS.items() if least <= capability]
    in_half, in_full = known[-1] if known else _OPERATIONS[7, 0]
    operations = in_half if dtype in _HALF else in_full
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    free, _ = torch.cuda.mem_get_info(device)
    return tokens_for(module, dtype, processors * operations * _CLOCK * _REACHED, free)


def tokens_for(
    module: torch.nn.Module, dtype: torch.dtype, operations_a_second: float, free_bytes: int
) -> int:
    """The budget for a device that computes so many operations, with so much free memory."""
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    work = 2 * sum(layer.weight.numel() for layer in layers)
    hidden = max((min(layer.weight.shape) for layer in layers), default=1)
    inner = max((max(layer.weight.shape) for layer in layers), default=1)
    size = torch.finfo(dtype).bits // 8
    states = (_HIDDEN_STATES * hidden + _INNER_STATES * inner) * size
    tokens = int(_BATCH_SECONDS * operations_a_second / max(work, 1))
    tokens = min(max(tokens, _LEAST_TOKENS), _MOST_TOKENS, int(_MEMORY_SHARE * free_bytes / states))
    return int(1 << max(tokens, 1).bit_length() - 1)


class MemoryLimit:
    """The tokens, padding included, that a device's memory was found to hold in one batch.

    Attributes:
        tokens: None until a batch did not fit.
    """

    def __init__(self) -> None:
        self.tokens: int | None = None
        self._lock = threading.Lock()

    def run(self, batch: TokenBatch, compute: Callable[[TokenBatch], Result]) -> list[Result]:
        """Results for the rows in order: of the batch, or of parts of it where the whole does not
        fit.

        Raises:
            torch.cuda.OutOfMemoryError: One row alone does not fit.
        """
        waiting, results = [batch], []
        while waiting:
            part = waiting.pop()
            if part.rows > 1 and self.tokens is not None and part.input_ids.size > self.tokens:
                waiting += self._halves(part)
                continue
            try:
                results.append(compute(part))
                continue
            except torch.cuda.OutOfMemoryError:
                if part.rows == 1:
                    raise
            # Only now: while an error is handled, it holds on to what the batch had in memory.
            self._lower(part.input_ids.size // 2)
            waiting += self._halves(part)
        return results

    @staticmethod
    def _halves(batch: TokenBatch) -> list[TokenBatch]:
        """The second half, then the first: the last of a list is taken next."""
        middle = batch.rows // 2
        return [batch.part(middle, batch.rows), batch.part(0, middle)]

    def _lower(self, tokens: int) -> None:
        with self._lock:
            self.tokens = tokens if self.tokens is None else min(self.tokens, tokens)
        logger.info(
            "The device's memory did not hold a batch of %d tokens; from now on batches have %d.",
            2 * tokens,
            self.tokens,
        )
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """Rows of parts of a batch as those of the batch."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
