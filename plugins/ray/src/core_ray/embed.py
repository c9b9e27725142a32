"""`Embed`: the callable class that Ray Data's `map_batches` takes."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import core
from core.toolkit import arrow_column
from core_ray.budget import take_threads
from core_ray.sharing import load_shared

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Kind of model to the function that loads it.
LOADERS = {
    "embedding": "load",
    "reranker": "load_reranker",
    "sparse": "load_sparse",
    "multi_vector": "load_multi_vector",
}


class Embed:
    """Embeds a column of every batch, with a model of any kind that each actor loads once.

    Give the class, not an instance, to `map_batches`, and its arguments as
    `fn_constructor_kwargs`: a name or a path travels to the actors, never weights. Actors on one
    node that load the same file for a CPU share its memory where the backend can (its option
    `share_weights`, unless `model_kwargs` of `load` says otherwise).

    Args:
        model: What `core.load` takes: a name, or a path that every node has.
        column: The column of the texts; of a reranker, the two columns of query and document.
        output: The column to add; None for "embedding", of a reranker "score". It holds fixed-size
            lists of float32 or of the chosen precision; of a sparse encoder lists of `{index:
            int32, value: float32}`; of a multi-vector model lists of fixed-size lists of float32;
            of a reranker float32. With the option `outputs` there is a column of each of these
            names instead.
        kind: "embedding", "reranker", "sparse" or "multi_vector", where the model's files fit
            several; None for its own.
        load: Options of the function that loads the model: `backend`, `device`, `file_name`, ...
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
        output: str | None = None,
        kind: str | None = None,
        load: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if kind is not None and kind not in LOADERS:
            raise core.OptionError(f"kind must be one of {', '.join(LOADERS)}, not {kind!r}.")
        loading = dict(load or {})
        if kind is None:
            known = inspect.signature(core.kind_of).parameters
            told = {name: value for name, value in loading.items() if name in known}
            kind = core.kind_of(model, **told)
        self._columns = [column] if isinstance(column, str) else list(column)
        wanted = 2 if kind == "reranker" else 1
        if len(self._columns) != wanted:
            raise core.OptionError(
                f"column={column!r}: a model of the kind {kind!r} reads {wanted} column(s)."
            )
        self._output = output or ("score" if kind == "reranker" else "embedding")
        opened = getattr(core, LOADERS[kind])

        def load(given: Mapping[str, Any]) -> core.Model:
            loaded: core.Model = opened(model, **given)
            return loaded

        in_actor = take_threads() is not None
        self._model = load_shared(load, loading) if in_actor else load(loading)
        self._run: Any = self._model.predict if kind == "reranker" else self._model.encode
        self._options = {"show_progress_bar": False, **options}
        # What does not fit the model is said before the first batch.
        self._model.check_options(self._model.parse_options(self._options))

    def __call__(self, batch: dict[str, NDArray[np.generic]] | Any) -> Any:
        """The batch, as a `pyarrow.Table`, with the output column or columns added.

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
        # Of a batch without rows, too, the column has its type.
        result = self._run(rows or self._model.as_inputs(["width"]), **self._options)
        named = result if isinstance(result, Mapping) else {self._output: result}
        for name, values in named.items():
            if name in table.column_names:
                table = table.drop_columns([name])
            table = table.append_column(name, arrow_column(values).slice(0, len(rows)))
        return table


def _as_table(batch: Any, pa: Any) -> Any:
    if isinstance(batch, pa.Table):
        return batch
    if isinstance(batch, Mapping):
        return pa.table({name: pa.array(values) for name, values in batch.items()})
    return pa.Table.from_pandas(batch, preserve_index=False)
