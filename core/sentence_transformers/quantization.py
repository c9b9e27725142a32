"""`quantize_embeddings` with the reference's arguments and return types."""

from __future__ import annotations

from typing import Any

from core.engine.postprocessing import quantize_embeddings as quantize
from core.engine.postprocessing import refuse_quantized
from core.sentence_transformers.tensors import as_array


def quantize_embeddings(
    embeddings: Any,
    precision: str,
    ranges: Any = None,
    calibration_embeddings: Any = None,
) -> Any:
    """Store embeddings in fewer bits: `core.quantize_embeddings` for arrays, tensors and lists.

    One vector gives one row of bits or, with ranges, of bytes.
    """
    # Before they become arrays, where tensors are float32.
    refuse_quantized("embeddings", embeddings)
    refuse_quantized("calibration_embeddings", calibration_embeddings)
    array = as_array(embeddings)
    single = array.ndim == 1 and array.size > 0
    found = quantize(
        array[None] if single else array,
        precision,
        ranges=None if ranges is None else as_array(ranges),
        calibration_embeddings=(
            None if calibration_embeddings is None else as_array(calibration_embeddings)
        ),
    )
    return found[0] if single else found
