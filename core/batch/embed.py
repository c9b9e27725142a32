"""`core.embed_dataset`: a whole source embedded in this process."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from core.arguments import check_flag, check_flag_or_none, check_keywords
from core.batch.job import ROWS_PER_PART, Job
from core.batch.loading import loader_options
from core.batch.records import FailedRow
from core.batch.runner import InThisProcess, Runner
from core.errors import CoreError, OptionError
from core.machine.surroundings import stderr_is_terminal
from core.models.model import Model
from core.options import EncodeOptions, check_names, field_names

#: Options of `encode` that make no column of a job.
_OTHER = ("convert_to_tensor", "output_value", "show_progress_bar")


@dataclass(frozen=True, slots=True)
class DatasetReport:
    """What a job left.

    Attributes:
        target: Where the parts are.
        fingerprint: Of the model, its options and versions, and the source.
        rows: Rows in the parts.
        failed: Rows of the source that have no embedding.
        parts: How many parts there are.
        made: How many of them this run made.
        rows_made: How many rows those have.
        seconds: How long it took.
    """

    target: str
    fingerprint: str
    rows: int
    failed: tuple[FailedRow, ...]
    parts: int
    made: int
    rows_made: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@check_keywords
def embed_dataset(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    model: str | os.PathLike[str] | Model,
    *,
    kind: str | None = None,
    text_column: str | Sequence[str] = "text",
    id_column: str | None = None,
    on_error: str = "fail",
    overwrite: bool = False,
    rows_per_part: int = ROWS_PER_PART,
    show_progress_bar: bool | None = None,
    runner: Runner | None = None,
    **options: Any,
) -> DatasetReport:
    """Embed the texts of a source into Parquet parts; a second call makes what is missing.

    The target gets `part-00000.parquet` and so on, in the order of the source, with the columns
    `id` and what the model's kind gives: `embedding`, a fixed-size list of `precision`; of a sparse
    encoder a list of `{index: int32, value: float32}`; of a multi-vector model a list of fixed-size
    lists of float32, one for each token; of a reranker `score`, float32 (with several labels a
    fixed-size list); with `outputs` a column of each of these names. The metadata of each schema
    (key `core`) has the fingerprint of the model, its options and versions. A part stands in its
    place only when it is whole. Memory does not grow with the source. `pip install core[batch]`
    brings what it needs.

    Args:
        source: Parquet, JSONL or text files (a text a line): a file or a directory, as a path or
            any URL that fsspec opens.
        target: A new or empty directory or that of the same job, as a path or URL.
        model: A loaded model of any kind, or what `core.load` takes.
        kind: What to load it as ("embedding", "reranker", "sparse", "multi_vector"), where its
            files fit several kinds; None for its own.
        text_column: The column or field of the texts; text files have none. Of a reranker two, of
            the queries and of the documents.
        id_column: Of the ids; None numbers the rows of the whole source from 0.
        on_error: What becomes of a row that is no text: "fail" raises, "skip" leaves it out,
            "null" writes a null for its embedding.
        overwrite: Start anew where the target holds a job.
        rows_per_part: The most rows of a part, of which one at most is made again after a kill.
        runner: What makes the parts, such as `core_ray.Runner`; None makes them in this process.
        show_progress_bar: None shows it where standard error is a terminal.
        **options: Of `encode` (of a reranker, of `predict`), and where `model` is a name or a path
            those of the function that loads it (`backend`, `device`, ...).

    Raises:
        OptionError: An argument cannot be used; the source lacks a column; the target is of
            another job (the message shows both fingerprints and what differs).
        CoreError: A row is no text and `on_error` is "fail", or a file cannot be read or written;
            finished parts are kept.
    """
    begun = time.monotonic()
    _check_pyarrow()
    check_flag("overwrite", overwrite)
    check_flag_or_none("show_progress_bar", show_progress_bar)
    if runner is not None and not callable(getattr(runner, "start", None)):
        raise OptionError(f"runner must have a method `start`, which {runner!r} lacks.")
    loading, encoding = _split(model, options)
    if kind is not None and isinstance(model, Model) and kind != model.kind:
        raise OptionError(f"kind={kind!r}, and the model is loaded already, as {model.kind!r}.")
    job = Job(
        source,
        target,
        text_column=text_column,
        id_column=id_column,
        kind=kind,
        options=encoding,
        on_error=on_error,
        rows_per_part=rows_per_part,
    )
    shown = stderr_is_terminal() if show_progress_bar is None else show_progress_bar
    runner = InThisProcess() if runner is None else runner
    with job.locked(), runner.start(job, model, loading) as workers:
        identity = workers.identity()
        finished = job.begin(identity, overwrite=overwrite)
        missing = [part for part in job.rows.parts if part.number not in finished]
        with _progress(job, finished, shown) as tell:
            for record in workers.make(missing, identity, tell):
                finished[record.number] = record
    made = [part.number for part in missing]
    return _report(job, identity, finished, made, time.monotonic() - begun)


def _report(
    job: Job, identity: Any, finished: Any, made: Sequence[int], seconds: float
) -> DatasetReport:
    """What the finished parts of a job come to."""
    records = [finished[number] for number in sorted(finished)]
    return DatasetReport(
        target=job.target.location,
        fingerprint=identity["fingerprint"],
        rows=sum(record.rows for record in records),
        failed=tuple(row for record in records for row in record.failed),
        parts=len(records),
        made=len(made),
        rows_made=sum(finished[number].rows for number in made),
        seconds=seconds,
    )


def _check_pyarrow() -> None:
    """Raise `CoreError` where pyarrow is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise CoreError(
            "Parquet is written with pyarrow, which is not installed. `pip install core[batch]` "
            "brings it."
        ) from error


def _split(model: Any, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the function that loads the model and those of `encode`, which are checked.

    What both take, such as `truncate_dim`, is the latter's.

    Raises:
        OptionError: One is of neither, makes no column, or has a value that it cannot have.
    """
    encodes = [name for name in field_names(EncodeOptions) if name not in _OTHER]
    loads = [name for name in loader_options() if name not in encodes]
    loaded = isinstance(model, Model)
    given = {name: value for name, value in options.items() if name in loads}
    if loaded and given:
        raise OptionError(
            f"{', '.join(given)}: options of core.load, and the model is loaded already."
        )
    rest = {name: value for name, value in options.items() if name not in given}
    check_names(rest, [*encodes, *([] if loaded else loads)], "embed_dataset")
    rest = {name: value for name, value in rest.items() if value is not None}
    EncodeOptions(**rest)
    if rest.get("precision") in ("int8", "uint8"):
        raise OptionError(
            f"precision={rest['precision']!r} takes its ranges from all embeddings of one call, "
            "and a job has many: keep float32, or use binary or ubinary."
        )
    if not isinstance(rest.get("activation_fn", ""), str):
        raise OptionError(
            "activation_fn of a job must be a name, such as 'Identity': another run has to tell "
            "whether it is the same."
        )
    return {name: value for name, value in given.items() if value is not None}, rest


@contextmanager
def _progress(job: Job, finished: Any, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar with the rate and the time left; yields what counts rows."""
    from tqdm import tqdm

    parts = job.rows.parts
    with tqdm(
        total=job.rows.count,
        initial=sum(part.rows for part in parts if part.number in finished),
        unit=" texts",
        unit_scale=True,
        disable=not shown,
    ) as bar:
        yield lambda rows: bar.update(rows) and None
