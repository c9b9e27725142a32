"""`core tune`: every variant measured on the user's texts, and one recommended."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from core.cli.arguments import add_json, add_source, print_json, print_table
from core.tuning.goal import DEFAULT_MIN_RECALL, OBJECTIVES


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "tune",
        help="measure every variant on your own texts, and choose one",
        description="Try what the installed backends can make of a model (float32, bfloat16, "
        "graph optimizations, int8, int4), measure speed and fidelity on your texts, and write "
        "the best and a lock file that `core.load` follows. What is measured is kept: an "
        "interrupted command goes on where it was.",
    )
    parser.add_argument("model", metavar="MODEL", help="a directory, or a name on the Hub")
    parser.add_argument(
        "--texts",
        required=True,
        metavar="FILE",
        help="some hundred texts like those to be embedded: .txt (one a line) or .jsonl",
    )
    parser.add_argument("--field", help='of each .jsonl line; "text" if absent')
    parser.add_argument(
        "-t",
        "--target",
        help="directory; if absent the model's own, or the cache for a model of the Hub",
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it may take (10)")
    parser.add_argument(
        "--for",
        dest="objective",
        default="throughput",
        choices=tuple(OBJECTIVES),
        help="what to make best (throughput)",
    )
    parser.add_argument(
        "--min-recall",
        type=float,
        metavar="R",
        help="of the ten nearest neighbours by float32, the share to keep "
        f"({DEFAULT_MIN_RECALL} if nothing else is required)",
    )
    parser.add_argument(
        "--min-cosine", type=float, metavar="C", help="every text's, to its float32 embedding"
    )
    parser.add_argument(
        "--max-quality-loss",
        type=_percent,
        metavar="PERCENT",
        help="on labelled data, such as 0.4%%",
    )
    parser.add_argument(
        "--pairs",
        metavar="FILE",
        help="labelled pairs: sentence1, sentence2, score (.tsv, .csv, .jsonl)",
    )
    parser.add_argument("--corpus", metavar="FILE", help="BEIR's corpus.jsonl")
    parser.add_argument("--queries", metavar="FILE", help="BEIR's queries.jsonl")
    parser.add_argument("--qrels", metavar="FILE", help="BEIR's qrels.tsv")
    parser.add_argument(
        "-b",
        "--backend",
        action="append",
        dest="backends",
        metavar="BACKEND",
        help="to try, may be repeated; every installed one if absent",
    )
    parser.add_argument("--device", help="cpu, cuda, ...; each backend's choice if absent")
    add_source(parser)
    parser.add_argument(
        "--trust-remote-code", action="store_true", help="let code from the repository run"
    )
    parser.add_argument(
        "--report", metavar="FILE", help="write an HTML report, which needs no network"
    )
    parser.add_argument("--plot", metavar="FILE", help="write the Pareto front: .svg or .png")
    parser.add_argument("--dry-run", action="store_true", help="recommend, and write nothing")
    parser.add_argument(
        "--fresh", action="store_true", help="measure again what was measured before"
    )
    add_json(parser)
    parser.set_defaults(core_command=run)


def run(parsed: argparse.Namespace) -> None:
    """`core.tune`, its table, and the files that were asked for."""
    import core
    from core.tuning.page import check_page
    from core.tuning.plot import check_plot

    if parsed.report is not None:
        check_page(parsed.report)
    if parsed.plot is not None:
        check_plot(parsed.plot)
    try:
        report = core.tune(
            parsed.model,
            Path(parsed.texts),
            backends=parsed.backends,
            minutes=parsed.minutes,
            objective=parsed.objective,
            min_recall=parsed.min_recall,
            min_cosine=parsed.min_cosine,
            max_quality_loss=parsed.max_quality_loss,
            pairs=parsed.pairs,
            corpus=parsed.corpus,
            queries=parsed.queries,
            qrels=parsed.qrels,
            target=parsed.target,
            field=parsed.field,
            device=parsed.device,
            revision=parsed.revision,
            local_files_only=parsed.local_files_only,
            trust_remote_code=parsed.trust_remote_code,
            write=not parsed.dry_run,
            fresh=parsed.fresh,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            "interrupted. What was measured is kept: the same command goes on from there."
        ) from None
    if parsed.report:
        report.save_html(parsed.report)
    if parsed.plot:
        report.save_plot(parsed.plot)
    if parsed.json:
        print_json(report.as_dict())
        return
    _print(report)


def _percent(text: str) -> float:
    """A share in percent, with or without its sign."""
    try:
        return float(text.removesuffix("%"))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of percent") from error


def _print(report: Any) -> None:
    from core.tuning.page import SHORT_COLUMNS

    rows = [tuple(name.upper() for name, _ in SHORT_COLUMNS)]
    rows += [tuple(cell(variant) for _, cell in SHORT_COLUMNS) for variant in report.variants]
    print_table(rows)
    print(
        f"\nSPEED is relative to {report.reference.name}, on {report.processor}; {report.texts:,} "
        f"texts judged, {report.calibration_texts:,} calibrated."
    )
    print(f"\n{report.reason}")
    if report.lock is not None:
        print(f"\nWritten: {report.lock}. `core.load({str(report.lock.parent)!r})` follows it.")
