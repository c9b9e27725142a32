"""What happens to embeddings after the model: truncation, normalization, quantization."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from core.architecture.modules import unit_length
from core.arguments import check_keywords
from core.engine.numbers import as_numbers
from core.errors import OptionError, UnsupportedOperation
from core.options import EMBEDDING_PRECISIONS, EncodeOptions

logger = logging.getLogger("core")

#: Fewer rows than this give poor ranges for int8 and uint8.
_ROWS_FOR_RANGES = 100


def postprocess(
    embeddings: Any, options: EncodeOptions, truncate_dim: int | None, tensor_device: Any = None
) -> Any:
    """Apply the options in the fixed order: truncate, normalize, quantize, convert.

    Args:
        embeddings: What `encode_texts` returns.
        truncate_dim: The model's own, where the options leave it out.
        tensor_device: The `torch.device` that tensors belong on; None for the CPU.
    """
    if options.output_value == "token_embeddings":
        if options.convert_to_tensor:
            return [to_tensor(tokens, tensor_device) for tokens in embeddings]
        return embeddings
    dimension = options.truncate_dim or truncate_dim
    if dimension is not None and dimension < embeddings.shape[1]:
        embeddings = np.ascontiguousarray(embeddings[:, :dimension])
    if options.normalize_embeddings:
        embeddings = unit_length(np, embeddings)
    if options.precision != "float32":
        embeddings = quantize_embeddings(embeddings, options.precision)
    return to_tensor(embeddings, tensor_device) if options.convert_to_tensor else embeddings


@check_keywords
def quantize_embeddings(
    embeddings: ArrayLike,
    precision: str,
    *,
    ranges: ArrayLike | None = None,
    calibration_embeddings: ArrayLike | None = None,
) -> NDArray[Any]:
    """Store embeddings in fewer bits.

    - `int8`, `uint8`: 256 buckets between the minimum and the maximum of each dimension, taken
      from `ranges` (float32 [2, dimension]: minima, maxima), else from `calibration_embeddings`,
      else from the embeddings themselves. Values outside the range take the nearest bucket.
    - `binary`, `ubinary`: one bit a dimension, set where the value is positive, packed into
      [n, ceil(dimension / 8)] of int8 (the packed byte less 128) or uint8.

    Args:
        embeddings: float [n, dimension].
        precision: `float32`, `int8`, `uint8`, `binary` or `ubinary`.

    Raises:
        OptionError: Another precision, arrays whose shapes do not fit, NaN, ranges that do not
            ascend, one embedding alone to take ranges from, or embeddings that are bytes already.
    """
    refuse_quantized("embeddings", embeddings)
    refuse_quantized("calibration_embeddings", calibration_embeddings)
    array = as_numbers("embeddings", embeddings)
    if not isinstance(precision, str) or precision not in EMBEDDING_PRECISIONS:
        raise OptionError(
            f"precision must be one of {', '.join(map(repr, EMBEDDING_PRECISIONS))}, "
            f"not {precision!r}."
        )
    if array.ndim != 2:
        raise OptionError(f"embeddings must have shape [n, dimension], not {list(array.shape)}.")
    if precision == "float32":
        return array
    if np.isnan(array).any():
        bad = np.flatnonzero(np.isnan(array).any(axis=1))
        raise OptionError(f"embeddings hold NaN, first in row {bad[0]}: {precision} has none.")
    if precision in ("binary", "ubinary"):
        packed = np.packbits(array > 0, axis=-1)
        if precision == "ubinary":
            return packed
        return (packed.astype(np.int16) - 128).astype(np.int8)
    if not len(array):
        return array.astype(precision)
    low, high = _ranges(array, ranges, calibration_embeddings)
    fits = np.isfinite(low) & np.isfinite(high) & (low <= high)
    if not fits.all():
        place = int(np.argmin(fits))
        raise OptionError(
            f"The range of dimension {place} goes from {low[place]} to {high[place]}: {precision} "
            "takes ranges that ascend and are finite."
        )
    step = (high - low) / 255
    # A constant dimension has no range; every value falls into its first bucket.
    buckets = np.clip(np.floor((array - low) / np.where(step > 0, step, 1)), 0, 255)
    if precision == "int8":
        # After rounding down, as in the reference: the same buckets as uint8's, shifted.
        buckets -= 128
    return buckets.astype(precision)


def refuse_quantized(name: str, value: Any) -> None:
    """Raise `OptionError` for embeddings that are bytes: arrays, tensors, lists of either."""
    rows = value[0] if isinstance(value, list | tuple) and value else value
    dtype = str(getattr(rows, "dtype", "")).removeprefix("torch.")
    if dtype in ("int8", "uint8"):
        raise OptionError(
            f"{name} are {dtype}: quantized already, and their values are buckets or packed bits. "
            "Pass the float embeddings they were made from."
        )


def _ranges(
    array: NDArray[np.float32], ranges: ArrayLike | None, calibration: ArrayLike | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    if ranges is not None:
        given = as_numbers("ranges", ranges)
        if given.shape != (2, array.shape[1]):
            raise OptionError(
                f"ranges must have shape [2, {array.shape[1]}] (minima, maxima), "
                f"not {list(given.shape)}."
            )
        return given[0], given[1]
    sample = array if calibration is None else as_numbers("calibration_embeddings", calibration)
    if sample.ndim != 2 or sample.shape[1] != array.shape[1] or not len(sample):
        raise OptionError(
            f"calibration_embeddings must have shape [n, {array.shape[1]}], "
            f"not {list(sample.shape)}."
        )
    if len(sample) == 1:
        raise OptionError(
            "int8 and uint8 take each dimension's range from the embeddings, and one embedding has "
            "none. Pass core.quantize_embeddings ranges or calibration_embeddings of many."
        )
    if len(sample) < _ROWS_FOR_RANGES:
        logger.warning(
            "Computing int8 ranges from %d embeddings; use at least %d, or pass ranges to "
            "core.quantize_embeddings.",
            len(sample),
            _ROWS_FOR_RANGES,
        )
    return sample.min(axis=0), sample.max(axis=0)


def to_tensor(array: NDArray[Any], device: Any) -> Any:
    """The array as a `torch.Tensor` on a `torch.device`; None for the CPU.

    Raises:
        UnsupportedOperation: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UnsupportedOperation(
            "convert_to_tensor=True needs PyTorch, which is not installed: "
            "`pip install core[torch]`, or use the numpy array."
        ) from error
    tensor = torch.from_numpy(array)
    return tensor if device is None else tensor.to(device)
