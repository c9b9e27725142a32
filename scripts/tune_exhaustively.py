"""Does `core tune` choose what measuring everything to the end would choose?

    python scripts/tune_exhaustively.py MODEL --texts FILE [--used 2000] [--rounds 7]

MODEL is a directory. `core.tune` chooses with the first part of the texts; then every variant that
it could make is made again, runs all rounds on the texts that judged, and embeds them: nothing is
dropped. Printed are the fastest that meets the requirement, how near the chosen one comes to it,
and whether the speed that the report forecasts holds on texts that were not used. Needs an idle
machine.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import core
from core.tuning.findings import TunedVariant
from core.tuning.measure import Timing, interleaved
from core.tuning.texts import TuningTexts, read_tuning_texts

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from benchmarks.process import Worker  # noqa: E402

_NEIGHBOURS = 10


def made(model: Path, variant: TunedVariant, parts: TuningTexts, target: Path) -> dict[str, Any]:
    """What loads a variant, whose file is made anew."""
    folder, file_name = model, variant.file_name
    capabilities = core.backends()[variant.backend].capabilities
    options: dict[str, Any] = {}
    if variant.config in capabilities.calibrated_configs:
        options["calibration"] = parts.calibration
    if variant.operation in ("optimize", "quantize"):
        with core.load(model, backend=variant.backend) as source:
            artifact = getattr(source, variant.operation)(variant.config, target, **options)
        folder, file_name = target, artifact.file_name
    elif file_name and not (model / file_name).is_file():
        precision: dict[str, Any] = {"precision": variant.config} if variant.operation else {}
        artifact = core.export(model, target, backend=variant.backend, **precision)
        folder, file_name = target, artifact.file_name
    return {
        "kind": "core",
        "path": str(folder),
        "backend": variant.backend,
        "file_name": file_name or "",
        "device": variant.device,
        "model_kwargs": dict(variant.options),
    }


def encoding(worker: Worker, workload: str) -> Callable[[int], Any]:
    """What a round does."""
    return lambda _: worker.ask(do="encode", workload=workload, batch=None, deadline=300.0)


def recall(expected: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> float:
    """The share of each text's ten nearest neighbours by cosine that stay its neighbours."""

    def neighbours(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        similar = unit @ unit.T
        np.fill_diagonal(similar, -np.inf)
        return np.argsort(-similar, axis=1, kind="stable")[:, :_NEIGHBOURS]

    pairs = zip(neighbours(expected), neighbours(found), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / _NEIGHBOURS for a, b in pairs]))


def measure(parsed: argparse.Namespace, folder: Path) -> None:
    lines = dict.fromkeys(parsed.texts.read_text(encoding="utf-8").splitlines())
    texts = [line for line in lines if line.strip()]
    random.Random(0).shuffle(texts)
    used, unused = texts[: parsed.used], texts[parsed.used : 2 * parsed.used]
    report = core.tune(parsed.model, used, min_recall=parsed.min_recall, write=False, fresh=True)
    print(report.reason)
    parts = read_tuning_texts(used)
    given = folder / "texts.json"
    given.write_text(json.dumps({"judged": parts.held_out, "unused": unused}), encoding="utf-8")
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for number, variant in enumerate(report.variants):
            if variant.status in ("failed", "not tried"):
                print(variant.name, variant.status, variant.note)
                continue
            spec = made(parsed.model, variant, parts, folder / f"{number}")
            log = folder / f"{number}.log"
            worker = Worker(Path(sys.executable), {**spec, "texts": str(given)}, log, 300.0)
            workers[variant.name] = stack.enter_context(worker)
        chosen, reference = report.best.name, report.reference.name
        timings: dict[str, dict[str, Timing]] = {}
        for workload in ("judged", "unused"):
            timings[workload] = interleaved(
                {
                    name: encoding(worker, workload)
                    for name, worker in workers.items()
                    if workload == "judged" or name in (chosen, reference)
                },
                rounds=parsed.rounds,
            )
        kept = {}
        for name, worker in workers.items():
            file = folder / "rows.npy"
            worker.ask(do="save", workload="judged", file=str(file))
            kept[name] = np.load(file)
    tell(report, timings, {n: recall(kept[reference], rows) for n, rows in kept.items()}, parsed)


def tell(
    report: Any,
    timings: dict[str, dict[str, Timing]],
    recalls: dict[str, float],
    parsed: argparse.Namespace,
) -> None:
    """Print what was found."""
    chosen, reference = report.best.name, report.reference.name
    judged, unused = timings["judged"], timings["unused"]
    ratio = {name: found.speed_over(judged[reference]).median for name, found in judged.items()}
    for name in sorted(ratio, key=lambda name: -ratio[name]):
        print(f"{name:32} {ratio[name]:5.2f}x  recall@10 {recalls[name]:.4f}")
    best = max((n for n in ratio if recalls[n] >= parsed.min_recall), key=lambda n: ratio[n])
    near = judged[chosen].speed_over(judged[best]).median
    print(f"fastest that keeps it: {best}; chosen: {chosen}, {near:.1%} of its speed")
    again = unused[chosen].speed_over(unused[reference]).median
    forecast = report.best.speed_ratio
    print(
        f"texts not used: {again:.3f} times the reference, forecast {forecast:.3f} "
        f"({again / forecast - 1:+.1%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="a model's directory")
    parser.add_argument("--texts", type=Path, required=True, help="a text a line")
    parser.add_argument("--used", type=int, default=2_000, help="texts that it tunes with (2000)")
    parser.add_argument("--rounds", type=int, default=7, help="of everything (7)")
    parser.add_argument("--min-recall", type=float, default=0.99)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="core-tune-") as folder:
        measure(parsed, Path(folder))


if __name__ == "__main__":
    main()
