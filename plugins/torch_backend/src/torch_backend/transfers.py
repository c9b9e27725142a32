"""Copies between the processor's memory and a GPU's that nothing waits for.

Only pinned memory is copied while the program goes on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray


def copy_over(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor on the CPU, on the device."""
    held = tensor.pin_memory() if device.type == "cuda" else tensor
    return held.to(device, non_blocking=True)


def copy_back(rows: torch.Tensor) -> Callable[[], NDArray[np.float32]]:
    """Begin to copy float32 rows from the device; the function returned waits for them."""
    if rows.device.type != "cuda":
        return lambda: as_array(rows)
    held = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
    held.copy_(rows, non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(rows.device))

    def read() -> NDArray[np.float32]:
        copied.synchronize()
        return as_array(held)

    return read


def as_array(rows: torch.Tensor) -> NDArray[np.float32]:
    """A float32 tensor as an array, waited for."""
    array: NDArray[np.float32] = rows.cpu().numpy()
    return array
