"""`core batch`: the texts of many rows embedded into Parquet files."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import entry_points
from typing import Any

from core.architecture.kinds import KINDS
from core.cli.arguments import (
    add_batching,
    add_json,
    add_results,
    add_source,
    batching_of,
    parse_option,
    print_json,
)
from core.errors import CoreError
from core.machine.stages import announce
from core.options import OUTPUTS, EncodeOptions

#: As `core.batch.job` has them, which is imported when the command runs.
_ON_ERROR = ("fail", "skip", "null")
#: Failed rows that are printed; the records of the parts name all of them.
_SHOWN = 10
#: Entry points of what runs jobs elsewhere (`core.batch.runner`).
RUNNER_GROUP = "core.batch_runners"


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "batch",
        help="embed the rows of Parquet, JSONL or text files into Parquet files",
        description="Embed the texts of SOURCE into Parquet parts below TARGET, with ids; a "
        "reranker scores pairs of two columns. What is finished is kept: the same command goes on "
        "where it ended.",
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help=".parquet, .jsonl or .txt (a text a line): a file or a directory, here or at a URL",
    )
    parser.add_argument("target", metavar="TARGET", help="a directory, here or at a URL")
    parser.add_argument("-m", "--model", required=True, help="a directory, or a name on the Hub")
    parser.add_argument("-b", "--backend", help="torch, onnx, openvino, ...; as in core encode")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; the backend's choice if absent")
    parser.add_argument("--file-name", help="the file to load, where the model has several")
    add_source(parser)
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let code from the repository run"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the backend (model_kwargs), for example share_weights=true",
    )
    parser.add_argument(
        "--kind",
        choices=tuple(KINDS),
        help="what to load the model as, where its files fit several kinds; its own if absent",
    )
    parser.add_argument(
        "--text-column",
        action="append",
        metavar="COLUMN",
        help="of the texts (text); of a reranker given twice, for queries and for documents",
    )
    parser.add_argument("--id-column", help="of the ids; rows are numbered if absent")
    parser.add_argument(
        "--on-error",
        default="fail",
        choices=_ON_ERROR,
        help="a row that is no text: end, leave it out, or write a null (fail)",
    )
    parser.add_argument("--rows-per-part", type=int, default=20_000, help="at most (20000)")
    parser.add_argument("--overwrite", action="store_true", help="start anew")
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help='run on a Ray cluster ("local" starts one here); needs core[ray]',
    )
    add_batching(parser, "texts", prompted="every text")
    add_results(parser, ("float32", "binary", "ubinary"))
    parser.add_argument(
        "--outputs",
        nargs="+",
        choices=OUTPUTS,
        help="of a model with several kinds of embeddings: a column of each",
    )
    add_json(parser)
    parser.set_defaults(core_command=run)


def run(parsed: argparse.Namespace) -> None:
    """Embed, and say what was made."""
    import core

    given = {
        **batching_of(parsed),
        "normalize_embeddings": parsed.normalize or None,
        "truncate_dim": parsed.truncate_dim,
        "precision": None if parsed.precision == "float32" else parsed.precision,
        "task": parsed.task,
        "token_pooling": parsed.pool_factor,
        "max_active_dims": parsed.max_active_dims,
        "outputs": None if parsed.outputs is None else tuple(parsed.outputs),
    }
    # What is for another kind of model is refused where it is given.
    encoding = {name: value for name, value in given.items() if value is not None}
    EncodeOptions(**encoding)
    loading = {
        "backend": parsed.backend,
        "device": parsed.device,
        "file_name": parsed.file_name,
        "revision": parsed.revision,
        "local_files_only": parsed.local_files_only,
        "trust_remote_code": parsed.trust_remote_code,
        "model_kwargs": dict(parse_option(text) for text in parsed.set) or None,
    }
    announce(f"reading {parsed.source}")
    report = core.embed_dataset(
        parsed.source,
        parsed.target,
        parsed.model,
        kind=parsed.kind,
        text_column=parsed.text_column or "text",
        id_column=parsed.id_column,
        on_error=parsed.on_error,
        overwrite=parsed.overwrite,
        rows_per_part=parsed.rows_per_part,
        runner=_ray_runner(parsed.ray),
        **loading,
        **encoding,
    )
    if parsed.json:
        print_json(report.as_dict())
        return
    _print(report)


def _ray_runner(address: str | None) -> Any:
    """What the distribution of the runner "ray" makes of the address; None for none."""
    if address is None:
        return None
    found = entry_points(group=RUNNER_GROUP, name="ray")
    if not found:
        raise CoreError(
            "No installed distribution runs jobs on Ray: `pip install core[ray]` brings one."
        )
    return next(iter(found)).load()(address)


def _print(report: Any) -> None:
    for row in report.failed[:_SHOWN]:
        print(f"not embedded: {row}", file=sys.stderr)
    if len(report.failed) > _SHOWN:
        print(f"... and {len(report.failed) - _SHOWN:,} more; --json lists them", file=sys.stderr)
    rate = f", {report.rows_made / report.seconds:,.0f} a second" if report.made else ""
    print(
        f"{report.target}: {report.rows:,} rows, parts: {report.parts:,}, of which this run made "
        f"{report.made:,} in {report.seconds:.1f} s{rate}.\n"
        f"Model and options have the fingerprint {report.fingerprint}."
    )
