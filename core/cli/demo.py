"""`core demo`: one real model on every installed backend, in float32 and in int8, and its use."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.cli import demo_embedding, demo_multi_vector, demo_reranker, demo_sparse
from core.cli.arguments import print_table, size_of
from core.cli.demonstration import Demonstration
from core.errors import BackendNotFound, CoreError
from core.tuning.measure import interleaved

#: Kind of model to how it is shown.
DEMONSTRATIONS: Mapping[str, Demonstration] = {
    "embedding": demo_embedding.DEMONSTRATION,
    "reranker": demo_reranker.DEMONSTRATION,
    "sparse": demo_sparse.DEMONSTRATION,
    "multi_vector": demo_multi_vector.DEMONSTRATION,
}
_ROUNDS = 3


@dataclass
class _Variant:
    """One file on one backend.

    Attributes:
        dtype: Of the file. Where int8 does not pay, products of int8 weights may be float32.
    """

    backend: str
    model: Any
    size: int
    dtype: str
    drift: str = ""
    speed: float = 0.0


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="run a real model on every installed backend",
        description="Run a model on every installed backend, in float32 and quantized to int8: "
        "file, size, speed and drift of each, and what such a model is for. Takes one to three "
        "minutes.",
    )
    defaults = ", ".join(shown.name for shown in DEMONSTRATIONS.values())
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help=f"default, by its kind: {defaults}"
    )
    parser.add_argument(
        "--kind",
        type=_spelled,  # the other commands have it with an underscore
        choices=[_spelled(kind) for kind in DEMONSTRATIONS],
        help="the kind of model to show (the model's own; embedding)",
    )
    parser.set_defaults(core_command=run)


def _spelled(kind: str) -> str:
    return kind.replace("_", "-")


def run(parsed: argparse.Namespace) -> None:
    """Load, quantize, compare, use, and say what to type next."""
    import core
    from core.artifacts.cache import cache_directory
    from core.plugin.known_backends import install_hint

    kind = _chosen_kind(parsed)
    shown = DEMONSTRATIONS[kind]
    usable = [name for name, status in core.backends().items() if status.status == "ok"]
    if not usable:
        raise BackendNotFound(f"No backend is installed. {install_hint()}")
    name = parsed.model or shown.find()
    target = cache_directory() / "demo" / Path(name).resolve().name
    if not parsed.model:
        target = target.with_name(shown.name.rpartition("/")[2])
    title = shown.name if parsed.model is None else name
    print(f"{title} on {', '.join(usable)}: one to three minutes on two cores.\n", flush=True)
    variants = _load(name, usable, kind)
    try:
        variants += _quantize(variants, target, shown)
        shown.show(variants[0].model)
        _print_comparison(variants, shown)
        shown.use(max(variants, key=lambda variant: variant.speed).model)
        _print_next(variants, name, target, shown)
    finally:
        for variant in variants:
            variant.model.close()


def _chosen_kind(parsed: argparse.Namespace) -> str:
    """The kind asked for, else the model's own."""
    if parsed.kind is not None:
        return next(kind for kind in DEMONSTRATIONS if _spelled(kind) == parsed.kind)
    if parsed.model is None:
        return next(iter(DEMONSTRATIONS))
    from core.architecture.kinds import kinds_of
    from core.checkpoint.resolve import resolve

    return kinds_of(resolve(parsed.model))[0]


def _step(text: str) -> None:
    print(text, flush=True)


def _load(name: str, backends: list[str], kind: str) -> list[_Variant]:
    import core
    from core.architecture.kinds import KINDS

    _step("Loading. A model without a file for a backend is exported once, in 10 to 30 seconds:")
    load = getattr(core, KINDS[kind].loader.removeprefix("core."))
    # It says in a warning what this step says anyway.
    log = logging.getLogger("core")
    level = log.level
    log.setLevel(logging.ERROR)
    variants: list[_Variant] = []
    try:
        for backend in backends:
            start = time.perf_counter()
            try:
                model = load(name, backend=backend)
            except CoreError as error:
                if backend == backends[-1] and not variants:
                    raise
                _step(f"  {backend}: left out. {error}")
                continue
            seconds = time.perf_counter() - start
            _step(f"  {backend}: loaded {model.file_name or name} in {seconds:.1f} s")
            size = sum(model.source.size(file) or 0 for file in model.weight_files)
            variants.append(_Variant(backend, model, size, model.dtype))
    finally:
        log.setLevel(level)
    return variants


def _quantize(variants: list[_Variant], target: Path, shown: Demonstration) -> list[_Variant]:
    """Each model in int8, where its backend can; every result is verified before it is written."""
    _step("\nQuantizing to int8 and comparing with float32, in 5 to 60 seconds each:")
    made = []
    for variant in variants:
        start = time.perf_counter()
        try:
            artifact = variant.model.quantize(target=target)
        except CoreError as error:
            _step(f"  {variant.backend}: not quantized. {error}")
            continue
        seconds = time.perf_counter() - start
        _step(f"  {variant.backend}: wrote {artifact.file_name} in {seconds:.1f} s")
        size = sum((artifact.root / file).stat().st_size for file in artifact.all_files)
        found = artifact.verification
        drift = "-" if found is None else shown.drift(found)
        made.append(_Variant(variant.backend, artifact.load(), size, artifact.precision, drift))
    return made


def _print_comparison(variants: list[_Variant], shown: Demonstration) -> None:
    first = variants[0]
    for variant in variants:
        if not variant.drift:  # float32: against the first backend
            variant.drift = shown.compare(first.model, variant.model)
    _step(f"\nMeasuring the speed of each with short {shown.inputs}, in 10 to 30 seconds:")
    _measure(variants, shown)
    rows: list[tuple[str, ...]] = [
        (
            "BACKEND",
            "FILE",
            "DTYPE",
            "SIZE",
            f"{shown.inputs.upper()}/S",
            "SPEED",
            shown.drift_title,
        )
    ]
    for variant in sorted(variants, key=lambda v: v.backend):
        model = variant.model
        rows.append(
            (
                variant.backend,
                model.file_name or "-",
                variant.dtype,
                size_of(variant.size),
                f"{variant.speed:.0f}",
                f"{variant.speed / first.speed:.1f}x",
                variant.drift,
            )
        )
    print()
    print_table(rows)
    print(
        f"SPEED is that of {first.backend} {first.dtype} on this machine, right now. "
        f"{shown.drift_note.format(first=first.backend)}"
    )


def _measure(variants: list[_Variant], shown: Demonstration) -> None:
    """Inputs a second, in interleaved rounds."""
    counts: dict[Any, int] = {}

    def act(number: int, turn: int) -> None:
        counts[number] = shown.run(variants[number].model, turn)

    acts = {number: partial(act, number) for number in range(len(variants))}
    for number, timing in interleaved(acts, rounds=_ROUNDS).items():
        variants[number].speed = counts[number] / timing.median


def _print_next(variants: list[_Variant], name: str, target: Path, shown: Demonstration) -> None:
    """Commands that work as they are printed."""
    from core.artifacts.cache import CACHE_VARIABLE, cache_directory

    quantized = [
        variant for variant in variants if (target / str(variant.model.file_name)).exists()
    ]
    best = max(quantized or variants, key=lambda variant: variant.speed)
    place = shlex.quote(str(target) if quantized else name)
    chosen = f" --file-name {best.model.file_name}" if quantized else ""
    command = _own_command()
    # `make demo` sets the variable, which the shell that types the command may not have.
    cache = shlex.quote(str(cache_directory()))
    cache = f"{CACHE_VARIABLE}={cache} " if os.environ.get(CACHE_VARIABLE) else ""
    first = shown.command.format(model=f"{place} --backend {best.backend}{chosen}")
    print(
        f"\nNext:\n"
        f"  {command} {first}\n"
        f"  {command} info {place}\n"
        f"  {cache}{command} cache    (lists what was written; with `clear` behind it, removes it)"
    )


def _own_command() -> str:
    """How this program is called from here: it may lie in an environment that is not active."""
    started = Path(sys.argv[0])
    found = shutil.which("core")
    if started.name != "core" or (found and Path(found).resolve() == started.resolve()):
        return "core"
    return shlex.quote(os.path.relpath(started))
