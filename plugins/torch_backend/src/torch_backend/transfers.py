"""Copies between the processor's memory and a GPU's that nothing waits for.

Only pinned memory is copied while the program goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

#: Batches whose token ids may be on their way at once; more are not started ahead.
_PLACES = 8


def copy_over(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on the CPU, on the device."""
    held = tensor.pin_memory() if device.type == "cuda" else tensor
    return held.to(device, non_blocking=True)


class Staging:
    """Memory that arrays of integers pass through on their way to the device, used again and again.

    Memory that is pinned for each batch would cost next to nothing, were it not for Python's lock:
    it is given up meanwhile, and threads that tokenize keep it for milliseconds. Used by one thread
    at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._places: list[tuple[torch.Tensor, Any]] = []
        self._next = 0

    def copy_over(self, parts: Sequence[NDArray[Any]]) -> list[torch.Tensor]:
        """The arrays as int32 tensors on the device, in one copy that nothing waits for."""
        lengths = [len(part) for part in parts]
        if self._device.type != "cuda":
            joined = np.concatenate(parts, dtype=np.int32, casting="same_kind")
            return list(torch.split(copy_over(torch.from_numpy(joined), self._device), lengths))
        held, copied = self._place(sum(lengths))
        np.concatenate(parts, out=held.numpy(), casting="same_kind")
        there = held.to(self._device, non_blocking=True)
        copied.record(torch.cuda.current_stream(self._device))
        return list(torch.split(there, lengths))

    def _place(self, size: int) -> tuple[torch.Tensor, Any]:
        """Pinned int32 [size] that nothing is copied from any more, and what tells of the copy."""
        if len(self._places) < _PLACES:
            self._places.append((torch.empty(0, dtype=torch.int32), _event()))
            self._next = len(self._places) - 1
        number, self._next = self._next, (self._next + 1) % _PLACES
        held, copied = self._places[number]
        copied.synchronize()
        if len(held) < size:
            room = 1 << (size - 1).bit_length()
            held = torch.empty(room, dtype=torch.int32, pin_memory=True)
            self._places[number] = held, copied
        return held[:size], copied


def _event() -> Any:
    return torch.cuda.Event()  # type: ignore[no-untyped-call]


def copy_back(rows: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
    """Begin to copy float32 rows from the device; the function returned waits for them."""
    if rows.device.type != "cuda":
        return lambda: as_array(rows)
    held = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    held.copy_(rows, non_blocking=True)
    copied = _event()
    copied.record(torch.cuda.current_stream(rows.device))

    def read() -> NDArray[np.float32]:
        copied.synchronize()
        return as_array(held)

    return read


def as_array(rows: torch.Tensor) -> NDArray[np.float32]:
    """A float32 tensor as an array, waited for."""
    array: NDArray[np.float32] = rows.cpu().numpy()
    return array
