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
#: The largest integer of a weight; and of two weights together, of which 255 times fits 16 bits.
_LEVELS, _PAIR_LEVELS = 127, 128


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


def round_weights(
    weight: NDArray[np.float32], *, adds_in_16_bits: bool = False
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight as signed integers, with a scale for each output.

    x86 processors without VNNI multiply an unsigned byte of the inputs with a signed one of the
    weights and add two such products, of inputs 2k and 2k + 1, in 16 bits (`vpmaddubsw`), where
    what is larger than 32,767 is cut off: 255 times the two weights together fits if these are 128
    at most. Weights of different signs always fit, and two large ones of the same sign are seldom
    beside each other, so that few outputs lose more than a fifth of their steps.

    Args:
        weight: [inputs, outputs].
        adds_in_16_bits: Keep the two weights of each such pair to 128 together.

    Returns:
        int8 [inputs, outputs] and float32 [outputs]; their product is about the weight.
    """
    largest = np.maximum(np.abs(weight).max(axis=0), np.float32(1e-12))
    scale = largest / _LEVELS
    if adds_in_16_bits and len(weight) > 1:
        pairs = np.abs(weight[: len(weight) // 2 * 2].reshape(-1, 2, weight.shape[1]).sum(axis=1))
        scale = np.maximum(scale, pairs.max(axis=0) / _PAIR_LEVELS)
    steps = weight / scale
    rounded = np.clip(np.rint(steps), -_LEVELS, _LEVELS)
    if adds_in_16_bits:
        first, second = rounded[: len(rounded) // 2 * 2 : 2], rounded[1::2]
        # Both were rounded up: the one that was so by more is rounded down.
        where = np.nonzero(np.abs(first + second) > _PAIR_LEVELS)
        gained = [np.abs(steps[n::2][where]) - np.abs(rounded[n::2][where]) for n in (0, 1)]
        is_first = gained[0] < gained[1]
        first[where] -= np.where(is_first, np.sign(first[where]), 0)
        second[where] -= np.where(is_first, 0, np.sign(second[where]))
    return rounded.astype(np.int8), scale.astype(np.float32)
