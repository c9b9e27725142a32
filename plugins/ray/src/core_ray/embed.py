"""`Embed`: the callable class that Ray Data's `map_batches` takes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import core
from core.toolkit import arrow_column
from core_ray.budget import take_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Kind of model to the function that loads it.
LOADERS = {"embedding": "load", "reranker": "load_reranker"}


class Embed:
    """Embeds a column of every batch, with a model that each actor loads once.

    Give the class, not an instance, to `map_batches`, and its arguments as
    `fn_constructor_kwargs`: a name or a path travels to the actors, never weights. Actors on one
    node that load the same file share its memory where the backend maps it.

    Args:
        model: What `core.load` takes: a name, or a path that every node has.
        column: The column of the texts; of a reranker, the two columns of query and document.
        output: The column to add: fixed-size lists of float32 or of the chosen precision
            (sparse: lists of index and value; a reranker: float32 scores).
        kind: "embedding" or "reranker".
        load: Options of `core.load`: `backend`, `device`, `file_name`, ...
        **options: Of `encode` (of a reranker: `predict`).

    Raises:
        core.OptionError: An argument cannot be used; a batch lacks the column, or has a row that is
            no text (the message names its position in the batch).
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        column: str | Sequence[str] = "text",
        output: str = "embedding",
        kind: str = "embedding",
        load: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if kind not in LOADERS:
            raise core.OptionError(f"kind must be one of {', '.join(LOADERS)}, not {kind!r}.")
        self._columns = [column] if isinstance(column, str) else list(column)
        wanted = 2 if kind == "reranker" else 1
        if len(self._columns) != wanted:
            raise core.OptionError(
                f"column={column!r}: a model of the kind {kind!r} reads {wanted} column(s)."
            )
        self._output = output
        take_threads()
        self._model = getattr(core, LOADERS[kind])(model, **dict(load or {}))
        self._run = self._model.predict if kind == "reranker" else self._model.encode
        self._options = {"show_progress_bar": False, **options}

    def __call__(self, batch: dict[str, NDArray[np.generic]] | Any) -> Any:
        """The batch, as a `pyarrow.Table`, with the output column added.

        Args:
            batch: Columns by name, as arrays (`batch_format="numpy"`), a `pyarrow.Table` or a
                pandas `DataFrame`.
        """
        import pyarrow as pa

        table = _as_table(batch, pa)
        for name in self._columns:
            if name not in table.column_names:
                listed = ", ".join(map(repr, table.column_names)) or "none"
                raise core.OptionError(f"The batch has no column {name!r}; it has {listed}.")
        inputs = [table[name].to_pylist() for name in self._columns]
        rows = inputs[0] if len(inputs) == 1 else list(zip(*inputs, strict=True))
        column = arrow_column(self._run(rows, **self._options)) if rows else pa.nulls(0)
        if self._output in table.column_names:
            table = table.drop_columns([self._output])
        return table.append_column(self._output, column)


def _as_table(batch: Any, pa: Any) -> Any:
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, Mapping):
        return pa.table({name: pa.array(values) for name, values in batch.items()})
    return pa.Table.from_pandas(batch, preserve_index=False)
