"""Short single texts on a GPU as recorded graphs.

Of a query of ten tokens a GPU computes each step faster than a program can ask for the next. A CUDA
graph holds all steps and is asked for once. It has one length, so texts are filled up to the next
of a few; what fills them is a text of its own, whose result is thrown away.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from core import TokenBatch
from torch_backend.packed.tokens import PackedTokens, Segments
from torch_backend.transfers import copy_over

logger = logging.getLogger("core")

#: Tokens of a graph.
LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128)

# Recording takes some tenths of a second: not for a length that comes once.
_USES_BEFORE = 2
# torch.cuda.graph asks for a few runs before: libraries choose their kernels in the first ones.
_WARM_UPS = 3

#: Records a function on a device, whose tensors stay where they are; the function returned computes
#: it again.
Record = Callable[[torch.device, Callable[[], torch.Tensor]], Callable[[], torch.Tensor]]


class RecordedTexts:
    """A graph for each length of text that is used again.

    Args:
        embed: The result [texts, dimension] of packed tokens.
        positions: Of the tokens of a batch [batch, tokens], as the encoder counts them.
        record: Makes a graph; `record_cuda_graph`.
    """

    def __init__(
        self,
        embed: Callable[[PackedTokens], torch.Tensor],
        positions: Callable[[TokenBatch], NDArray[np.int64]],
        device: torch.device,
        record: Record,
    ) -> None:
        self._embed, self._positions, self._device, self._record = embed, positions, device, record
        self._uses: Counter[int] = Counter()
        self._graphs: dict[int, tuple[torch.Tensor, Callable[[], torch.Tensor]]] = {}
        self._lock = threading.Lock()
        self._broken = False

    @property
    def lengths(self) -> list[int]:
        """Those of which there are graphs."""
        return sorted(self._graphs)

    def embed(self, batch: TokenBatch) -> torch.Tensor | None:
        """float32 [1, dimension] of a batch of one text; None where no graph serves it."""
        length = self._length(batch)
        if length is None:
            return None
        with self._lock:
            self._uses[length] += 1
            if length not in self._graphs and self._uses[length] > _USES_BEFORE:
                self._try_to_record(length)
            if length not in self._graphs:
                return None
            place, replay = self._graphs[length]
            layout = np.zeros(len(place), dtype=np.int32)
            layout[: batch.width] = batch.input_ids[0]
            layout[length : length + batch.width] = self._positions(batch)[0]
            layout[-2:] = batch.width, length
            place.copy_(copy_over(torch.from_numpy(layout), self._device))
            # A copy: the next text is written over it.
            return replay()[:1].clone()

    def _length(self, batch: TokenBatch) -> int | None:
        plain = batch.rows == 1 and not batch.prompt_tokens and not batch.token_type_ids.any()
        if self._broken or not plain or not batch.attention_mask.all():
            return None
        return next((length for length in LENGTHS if length >= batch.width), None)

    def _try_to_record(self, length: int) -> None:
        # Token ids, positions, bounds: of the text, and of what fills it up.
        place = torch.zeros(2 * length + 3, dtype=torch.int32, device=self._device)
        ids, positions, bounds = torch.split(place, [length, length, 3])
        bounds[1:] = length
        tokens = PackedTokens(ids, positions, None, bounds, length, None, Segments(bounds))
        try:
            replay = self._record(self._device, lambda: self._embed(tokens))
            self._graphs[length] = (place, replay)
        except Exception as error:  # of CUDA, the driver, a kernel that waits for the GPU
            self._broken = True
            logger.info("Single texts are computed without a recorded graph: %s", error)


def record_cuda_graph(
    device: torch.device, function: Callable[[], torch.Tensor]
) -> Callable[[], torch.Tensor]:
    """A CUDA graph of the function, whose result is written to the same tensor each time."""
    with torch.cuda.device(device):
        # As torch.cuda.graph's documentation asks for.
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            result = function()

    def replay() -> torch.Tensor:
        graph.replay()
        return result

    return replay
