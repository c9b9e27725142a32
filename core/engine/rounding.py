"""Weights as integers: each rounded to the nearest, or so that products change least.

GPTQ (Frantar et al. 2022, https://arxiv.org/abs/2210.17323) in its form without an inverse, LDLQ
(Chee et al. 2023, https://arxiv.org/abs/2307.13304): weights are rounded input by input, and what
one step changes in a product is made good by the inputs that follow, as far as calibration texts
have them go along with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

#: The largest integer of a weight; and of two weights together, of which 255 times fits 16 bits.
_LEVELS, _PAIR_LEVELS = 127, 128
#: Most inputs whose moments with each other are kept.
_MOST_RELATED = 1_024
#: Of the mean of all inputs' moments, added to each: texts say little of inputs that are rare.
_DAMPING = 0.01
#: With how many rows for each input half of how inputs go together is believed: rows of one text
#: are much alike. Of 6, 10 and 20 the first lost least, with 4 calibration texts as with 200.
_DOUBT = 6
#: Inputs whose errors are passed on by one product of matrices.
_BLOCK = 64
_SMALLEST = 1e-12

Rounded = tuple[NDArray[np.int8], NDArray[np.float32]]


class Moments:
    """The second moments of a product's inputs: how large they are, and which go together.

    Many inputs are taken in equal parts of at most 1,024, and only those of one part are told of
    together: of 4,096 that needs a quarter of the memory and of the time.

    Args:
        channels: How many inputs the product has.

    Attributes:
        sums: float32 [parts, size, size]: x x^T of each part, summed over rows of inputs.
        rows: How many rows.
    """

    def __init__(self, channels: int) -> None:
        parts = moment_parts(channels)
        size = channels // parts
        self.sums: NDArray[np.float32] = np.zeros((parts, size, size), dtype=np.float32)
        self.rows = 0

    def add(self, sums: NDArray[np.float32], rows: int) -> None:
        """Take in more rows: their sums, of the same shape."""
        self.sums += sums
        self.rows += rows

    def divided(self, factors: NDArray[np.float32] | None) -> NDArray[np.float32]:
        """The sums for inputs that are divided by these factors, [channels].

        How inputs go together is believed by how many rows told it (shrinkage towards the
        diagonal, Ledoit and Wolf 2004): what a few texts have in common others need not have.
        """
        parts, size, _ = self.sums.shape
        believed = self.rows / (self.rows + _DOUBT * size)
        found = self.sums * np.float32(believed)
        diagonal = np.arange(size)
        found[:, diagonal, diagonal] = self.sums[:, diagonal, diagonal]
        if factors is not None:
            inverse = (1 / factors).reshape(parts, size)
            found *= inverse[:, :, None] * inverse[:, None, :]
        return np.asarray(found, dtype=np.float32)


def moment_parts(channels: int) -> int:
    """In how many parts the inputs of a product are taken: the fewest that are equal."""
    fewest = -(-channels // _MOST_RELATED)
    return next(parts for parts in range(fewest, channels + 1) if channels % parts == 0)


class WeightRounder:
    """Rounds the weights of a model's products, each once for the same smoothing.

    Args:
        moments: Of the inputs, by their name; the weights of others are rounded to the nearest.
        adds_in_16_bits: As for `round_weights`.
    """

    def __init__(self, moments: Mapping[str, Moments], *, adds_in_16_bits: bool = False) -> None:
        self._moments = moments
        self._adds_in_16_bits = adds_in_16_bits
        self._made: dict[tuple[str, bytes], Rounded] = {}

    def round(
        self,
        product: str,
        inputs: str,
        weight: NDArray[np.float32],
        factors: NDArray[np.float32] | None = None,
    ) -> Rounded:
        """The weight of a product as `round_weights` gives it.

        Args:
            weight: [inputs, outputs], as it is in the model.
            factors: What each input is divided by, and its weights are multiplied by, [inputs].
        """
        known = product, b"" if factors is None else factors.tobytes()
        if known not in self._made:
            moments = self._moments.get(inputs)
            sums = None if moments is None else moments.divided(factors)
            if factors is not None:
                weight = weight * factors[:, None]
            self._made[known] = round_weights(
                weight, adds_in_16_bits=self._adds_in_16_bits, moments=sums
            )
        return self._made[known]


def round_weights(
    weight: NDArray[np.float32],
    *,
    adds_in_16_bits: bool = False,
    moments: NDArray[np.float32] | None = None,
) -> Rounded:
    """A weight as signed integers, with a scale for each output.

    x86 processors without VNNI multiply an unsigned byte of the inputs with a signed one of the
    weights and add two such products, of inputs 2k and 2k + 1, in 16 bits (`vpmaddubsw`), where
    what is larger than 32,767 is cut off: 255 times the two weights together fits if these are 128
    at most. Weights of different signs always fit, and two large ones of the same sign are seldom
    beside each other, so that few outputs lose more than a fifth of their steps.

    Args:
        weight: [inputs, outputs].
        adds_in_16_bits: Keep the two weights of each such pair to 128 together.
        moments: Of the inputs, float32 [parts, size, size] as in `Moments`. With them weights are
            rounded so that products of such inputs change least; without, or where inputs were so
            large that their squares are no finite numbers, each is rounded to the nearest.

    Returns:
        int8 [inputs, outputs] and float32 [outputs]; their product is about the weight.
    """
    pairs = adds_in_16_bits and len(weight) > 1
    scale = np.maximum(np.abs(weight).max(axis=0), np.float32(_SMALLEST)) / _LEVELS
    if pairs:
        sums = np.abs(weight[: len(weight) // 2 * 2].reshape(-1, 2, weight.shape[1]).sum(axis=1))
        scale = np.maximum(scale, sums.max(axis=0) / _PAIR_LEVELS)
    steps = np.ascontiguousarray(weight / scale, dtype=np.float32)
    if moments is None or not np.isfinite(moments).all():
        rounded = _nearest(steps, pairs=pairs)
    else:
        rounded = _fed(steps, moments, pairs=pairs)
    # Weights that are no numbers: the model gives none either, and is refused for that.
    with np.errstate(invalid="ignore"):
        return rounded.astype(np.int8), scale.astype(np.float32)


def _nearest(steps: NDArray[np.float32], *, pairs: bool) -> NDArray[np.float32]:
    rounded = np.clip(np.rint(steps), -_LEVELS, _LEVELS)
    if pairs:
        first, second = rounded[: len(rounded) // 2 * 2 : 2], rounded[1::2]
        # Both were rounded up: the one that was so by more is rounded down.
        where = np.nonzero(np.abs(first + second) > _PAIR_LEVELS)
        gained = [np.abs(steps[n::2][where]) - np.abs(rounded[n::2][where]) for n in (0, 1)]
        is_first = gained[0] < gained[1]
        first[where] -= np.where(is_first, np.sign(first[where]), 0)
        second[where] -= np.where(is_first, 0, np.sign(second[where]))
    return rounded


def _fed(
    steps: NDArray[np.float32], moments: NDArray[np.float32], *, pairs: bool
) -> NDArray[np.float32]:
    """Rounded in order, with the errors of the inputs before fed back to each."""
    rounded, errors = np.zeros_like(steps), np.zeros_like(steps)
    size = moments.shape[1]
    for part, own in enumerate(moments):
        feedback, first = _feedback(own), part * size
        for start in range(0, size, _BLOCK):
            stop = min(start + _BLOCK, size)
            wanted = steps[first + start : first + stop] + (
                feedback[:start, start:stop].T @ errors[first : first + start]
            )
            for k in range(start, stop):
                row = first + k
                value = wanted[k - start] + feedback[start:k, k] @ errors[first + start : row]
                rounded[row] = np.clip(np.rint(value), -_LEVELS, _LEVELS)
                if pairs and row % 2:
                    room = _PAIR_LEVELS - np.abs(rounded[row - 1])
                    same = rounded[row] * rounded[row - 1] > 0
                    kept = np.clip(rounded[row], -room, room)
                    rounded[row] = np.where(same, kept, rounded[row])
                errors[row] = steps[row] - rounded[row]
    return rounded


def _feedback(moments: NDArray[np.float32]) -> NDArray[np.float32]:
    """What of the error of each input's weights a later input makes good, [size, size].

    With the moments as U D U^T, U unit upper triangular, and e U as what the errors e of all
    inputs come to after feedback, the squared error of a product is that of each weighted by D.
    """
    damped = moments.astype(np.float64)
    mean = max(float(np.trace(damped)) / len(damped), _SMALLEST)
    damped[np.diag_indices(len(damped))] += _DAMPING * mean
    # The factors of Cholesky are lower triangular: from the last input to the first.
    upper = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    return np.asarray(upper / np.diag(upper), dtype=np.float32)
