"""Half precision: a float32 graph computing in float16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx_backend.rewriting.values import state_types


def to_half(model: Any, scratch: Path) -> Any:
    """The model computing in float16, inputs and outputs as they were."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    state_types(model, scratch)  # they decide where casts go
    return convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
