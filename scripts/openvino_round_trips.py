"""OpenVINO files exchanged with sentence-transformers 6.2 and optimum-intel 2.2.

    python scripts/openvino_round_trips.py MODEL

Exports MODEL here and lets the peer load it; lets the peer export and save it, and loads that here.
Builds the peer's environment first (scripts/peers.py). Prints the minimum cosine of each trip.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import core
from core.architecture.modules import unit_length

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts import peers

PEER = "st-6.2-openvino"
TEXTS = ["hello world", "a second, somewhat longer text about boats", "many words here " * 40]
ENOUGH = 0.99999

IN_PEER = """
import sys
import numpy as np
from optimum.intel import OVModelForFeatureExtraction
from sentence_transformers import SentenceTransformer

ours, plain, out, *texts = sys.argv[1:]
# Left alone it computes in bfloat16 where the processor has it.
exact = {"ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}
model = SentenceTransformer(ours, backend="openvino", model_kwargs={"export": False, **exact})
np.save(f"{out}/peer_on_ours.npy", model.encode(texts))
OVModelForFeatureExtraction.from_pretrained(ours, subfolder="openvino")
model = SentenceTransformer(plain, backend="openvino", model_kwargs=exact)
np.save(f"{out}/peer.npy", model.encode(texts))
model.save_pretrained(f"{out}/written")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    arguments = parser.parse_args()
    python = peers.build(PEER)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plain, ours = folder / "plain", folder / "ours"
        shutil.copytree(arguments.model, plain, ignore=shutil.ignore_patterns("openvino", "onnx"))
        shutil.copytree(plain, ours)
        core.export(ours, backend="openvino")
        with core.load(ours, backend="openvino", export=False) as model:
            here = model.encode(TEXTS)
            core.save(model, folder / "saved")
        command = [str(python), "-c", IN_PEER, str(folder / "saved"), str(plain), scratch, *TEXTS]
        subprocess.run(command, check=True)
        with core.load(folder / "written", backend="openvino", export=False) as model:
            theirs = model.encode(TEXTS)
        trips = {
            "written here, loaded there": (np.load(folder / "peer_on_ours.npy"), here),
            "written there, loaded here": (theirs, np.load(folder / "peer.npy")),
            "exported there and here": (theirs, here),
        }
    passed = True
    for name, (a, b) in trips.items():
        cosine = float((unit_length(np, a) * unit_length(np, b)).sum(axis=1).min())
        passed &= cosine >= ENOUGH
        print(f"{name}: minimum cosine {cosine:.7f}")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
