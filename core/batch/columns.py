"""What a model gives for the rows of a window, as columns of Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.kinds import MULTI_VECTOR, RERANKER
from core.engine.arrow import arrow_column
from core.models.model import Model
from core.options import EncodeOptions

#: Rows of one call to the model and of one row group of the result. A text of a multi-vector model
#: has a vector for each token, some hundred times the memory.
_WINDOW = 4_096
_WINDOWS = {MULTI_VECTOR: 256}


def window_of(model: Model, options: EncodeOptions) -> int:
    """How many rows are read, embedded and written at a time."""
    kind = MULTI_VECTOR if MULTI_VECTOR in (options.outputs or ()) else model.kind
    return _WINDOWS.get(kind, _WINDOW)


def result_columns(
    model: Model, inputs: Sequence[Any], options: EncodeOptions, missing: NDArray[np.bool_]
) -> dict[str, Any]:
    """What the model gives, as a `pyarrow.Array` for each column: `embedding`, of a reranker
    `score`, and with `outputs` one of each of these names.

    Args:
        inputs: Texts, or pairs of them.
        missing: bool [rows], true where a row has no input and the columns have a null; there are
            as many others as inputs.
    """
    import pyarrow as pa

    # Without any input one tells the types, which every part has.
    result = model.hooks.encode(model, inputs or model.as_inputs(["width"]), options)
    name = "score" if model.kind == RERANKER else "embedding"
    named = result if isinstance(result, Mapping) else {name: result}
    if not inputs:
        return {name: pa.nulls(len(missing), arrow_column(one).type) for name, one in named.items()}
    absent = missing if missing.any() else None
    return {name: arrow_column(one, absent) for name, one in named.items()}
