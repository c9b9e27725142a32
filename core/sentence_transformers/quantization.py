"""`quantize_embeddings` with the reference's arguments and return types."""

from __future__ import annotations

from typing import Any

from core.precision import quantize_embeddings as quantize
from core.sentence_transformers.arguments import as_array


def quantize_embeddings(
    embeddings: Any,
    precision: str,
    ranges: Any = None,
    calibration_embeddings: Any = None,
) -> Any:
    """Store embeddings in fewer bits: `core.quantize_embeddings` for arrays, tensors and lists."""
    return quantize(
        as_array(embeddings),
        precision,
        ranges=None if ranges is None else as_array(ranges),
        calibration_embeddings=(
            None if calibration_embeddings is None else as_array(calibration_embeddings)
        ),
    )
