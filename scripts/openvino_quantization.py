"""What quantization does to a model on OpenVINO: drift, ranking, speed, size.

    python scripts/openvino_quantization.py MODEL [--texts 2000] [--sick FILE] [--only NAME ...]

MODEL is a directory with openvino/openvino_model.xml. The texts are English prose of 1 to 400
words from the descriptions of installed packages: none of them is used for calibration. Speed is
processor time of one thread, fp32 and the variant taking turns, so that other work on the machine
hardly counts.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import random
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import core
from core.architecture.modules import unit_length
from core.engine.ranks import spearman

VARIANTS: dict[str, Any] = {
    "default": None,
    "overflow fix": {"overflow_fix": "enable"},
    "symmetric activations": {"sym": True},
    "overflow fix, symmetric": {"overflow_fix": "enable", "sym": True},
    "smooth quant 0.5": {"smooth_quant_alpha": 0.5},
    "no smooth quant": {"smooth_quant_alpha": -1},
    "attention products in float": "attention",
    "16 short texts": "short",
    "int8 weights": "int8-weights",
    "int4 weights": "int4-weights",
}
#: Rows and tokens whose speed is compared.
SHAPES = ((1, 8), (1, 64), (30, 17), (4, 128))
THREAD = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1}


def prose(count: int, seed: int = 1) -> list[str]:
    """Texts of 1 to 400 words."""
    paragraphs = []
    for distribution in sorted(importlib.metadata.distributions(), key=lambda d: d.name or ""):
        description = (distribution.read_text("METADATA") or "").partition("\n\n")[2]
        for paragraph in re.split(r"\n\s*\n", description):
            letters = sum(c.isalpha() or c.isspace() for c in paragraph)
            if len(paragraph.split()) >= 12 and letters > 0.85 * len(paragraph):
                paragraphs.append(paragraph.split())
    choose = random.Random(seed)
    texts = []
    for _ in range(count):
        wanted, at = choose.randint(1, 400), choose.randrange(len(paragraphs))
        words: list[str] = []
        while len(words) < wanted:
            words += paragraphs[at % len(paragraphs)]
            at += 1
        texts.append(" ".join(words[:wanted]))
    return texts


def quantize(model: core.EmbeddingModel, name: str) -> core.Artifact:
    """The variant called `name`."""
    config = VARIANTS[name]
    options: dict[str, Any] = {}
    if config == "attention":
        names = [
            node.get_friendly_name()
            for node in model.runtime.graph.get_ops()
            if node.get_type_name() == "MatMul"
            and all(node.input_value(i).get_node().get_type_name() != "Constant" for i in range(2))
        ]
        config = {"ignored_scope": {"names": names}}
    elif config == "short":
        config = None
        options["calibration"] = [" ".join(text.split()[:9]) for text in prose(16, seed=99)]
    suffix = name.replace(" ", "_").replace(",", "").replace(".", "")
    return core.quantize(model, config, file_suffix=suffix, min_cosine=-1, **options)


def cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row by row."""
    units = (unit_length(np, rows.astype(np.float64)) for rows in (a, b))
    found: NDArray[np.float64] = np.multiply(*units).sum(1)
    return found


def speed(fp32: core.EmbeddingModel, other: core.EmbeddingModel, rounds: int = 7) -> list[float]:
    """fp32's processor time over the other's, for each of `SHAPES`."""
    from core.architecture.batch import TokenBatch

    ratios = []
    for shape in SHAPES:
        ids = np.random.default_rng(0).integers(1_000, 20_000, shape)
        batch = TokenBatch(ids, np.ones_like(ids), np.zeros_like(ids))
        best = [float("inf")] * 2
        for _ in range(rounds):
            for i, model in enumerate((fp32, other)):
                start = time.process_time()
                model.runtime.sentence_embeddings(batch)
                best[i] = min(best[i], time.process_time() - start)
        ratios.append(best[0] / best[1])
    return ratios


def spearman_on_sick(model: core.EmbeddingModel, path: Path | None, pairs: int | None) -> float:
    """Rank correlation with the scores of a file of score, sentence, sentence; NaN without one."""
    if path is None:
        return float("nan")
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines[:pairs]]
    first, second = (model.encode([row[i] for row in rows]) for i in (1, 2))
    scores = np.array([float(row[0]) for row in rows])
    return 100 * spearman(cosines(first, second), scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--sick", type=Path)
    parser.add_argument("--pairs", type=int, help="of SICK; all of them without it")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    texts = prose(arguments.texts)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        shutil.copytree(arguments.model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
        load: dict[str, Any] = {"backend": "openvino", "export": False}
        full = core.load(folder, file_name="openvino_model.xml", **load)
        expected = full.encode(texts)
        ranked = spearman_on_sick(full, arguments.sick, arguments.pairs)
        single = core.load(
            folder, file_name="openvino_model.xml", model_kwargs={"ov_config": THREAD}, **load
        )
        shapes = " | ".join(f"{rows}x{width}" for rows, width in SHAPES)
        print(f"{len(texts)} texts; fp32: SICK {ranked:.2f}")
        print(f"| variant | mean | 1st percentile | minimum | SICK | MB | {shapes} |")
        for name in arguments.only:
            artifact = quantize(full, name)
            size = artifact.path.with_suffix(".bin").stat().st_size / 1e6
            with artifact.load() as model:
                drift = cosines(model.encode(texts), expected)
                rank = (
                    spearman_on_sick(model, arguments.sick, arguments.pairs)
                    if arguments.sick
                    else float("nan")
                )
            with artifact.load(model_kwargs={"ov_config": THREAD}) as model:
                ratios = " | ".join(f"{ratio:.2f}" for ratio in speed(single, model))
            print(
                f"| {name} | {drift.mean():.4f} | {np.percentile(drift, 1):.4f} | "
                f"{drift.min():.4f} | {rank:.2f} | {size:.0f} | {ratios} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
