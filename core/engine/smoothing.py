"""What int8 needs to know of a product's inputs: ranges from calibration, and smoothing by them.

SmoothQuant (Xiao et al. 2022, https://arxiv.org/abs/2211.10438): a few channels that layer norms
make large decide the step in which all are rounded. Divide every channel of the inputs by a factor
and multiply that row of the weights by it: the product stays what it is, and both round well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: How much of a channel's range moves into the weights, between 0 and 1. With 0.7 the minimum
#: cosine of all-MiniLM-L6-v2 was highest, of 0.5 to 0.85.
SMOOTHING_ALPHA = 0.7

_SMALLEST = 1e-5


@dataclass
class ChannelRanges:
    """The smallest and largest value of each channel of some activations, over batches.

    Attributes:
        low: float32 [channels].
        high: float32 [channels].
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    def add(self, low: NDArray[np.float32], high: NDArray[np.float32]) -> None:
        """Take in another batch."""
        self.low = np.minimum(self.low, low)
        self.high = np.maximum(self.high, high)

    @property
    def largest(self) -> NDArray[np.float32]:
        """Of each channel the largest absolute value, float32 [channels]."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def bounds(self, factors: NDArray[np.float32] | None = None) -> tuple[float, float]:
        """Smallest and largest value of all channels, each divided by its factor; 0 included."""
        scale = np.ones_like(self.low) if factors is None else factors
        low, high = float((self.low / scale).min()), float((self.high / scale).max())
        return min(low, 0.0), max(high, 0.0)


def smoothing_factors(
    activations: NDArray[np.float32],
    weights: Sequence[NDArray[np.float32]],
    alpha: float = SMOOTHING_ALPHA,
) -> NDArray[np.float32]:
    """What to divide each channel of the inputs by, and multiply that row of the weights by.

    `max|x|^alpha / max|w|^(1 - alpha)` (SmoothQuant, equation 4), scaled to a geometric mean of 1.

    Args:
        activations: The largest absolute value of each channel, [channels].
        weights: Of every product that takes these inputs, [channels, outputs] each.
        alpha: 0 leaves the inputs as they are spread, 1 makes all their channels equal.

    Returns:
        float32 [channels], all positive.
    """
    largest = np.max([np.abs(weight).max(axis=1) for weight in weights], axis=0)
    factors = np.maximum(activations, _SMALLEST) ** alpha
    factors = factors / np.maximum(largest, _SMALLEST) ** (1 - alpha)
    scaled: NDArray[np.float32] = np.asarray(factors / np.exp(np.log(factors).mean()), np.float32)
    return scaled
