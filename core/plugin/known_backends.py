"""The backends of this repository, for messages and files while they are not installed.

Third parties' are found, not listed. A test checks the files against the backends.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.machine.surroundings import is_frozen

#: Backend to the command that installs it.
INSTALL_COMMANDS = {
    "torch": "pip install core[torch]",
    "onnx": "pip install core[onnx]",
    "openvino": "pip install core[openvino]",
}

#: Backend to its `FILES`: patterns of what it loads, and of the companions of each.
KNOWN_FILES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "torch": {
        "model.safetensors": (),
        "model.safetensors.index.json": ("model-*.safetensors",),
        "pytorch_model.bin": (),
        "pytorch_model.bin.index.json": ("pytorch_model-*.bin",),
        "model_*.safetensors": (),
        "torch/model_*.json": (),
    },
    "onnx": {
        "*.onnx": ("{file}_data*", "{file}.data*"),
        "onnx/*.onnx": ("{file}_data*", "{file}.data*"),
    },
    "openvino": {
        "*.xml": ("{stem}.bin",),
        "openvino/*.xml": ("{stem}.bin",),
    },
}

#: Weights that some other tool loads and no backend of this repository does.
OTHER_WEIGHTS = (
    "*.safetensors",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.npz",
    "*.index.json",
)
#: Those of other frameworks: what a copy of a Hub repository leaves there.
FOREIGN_WEIGHTS = (
    "*.h5",
    "*.msgpack",
    "*.ot",
    "*.tflite",
    "*.gguf",
    "*.mlmodel",
    "*.mlpackage/*",
)


def install_hint() -> str:
    """The sentence that tells how to install a backend."""
    if is_frozen():
        return (
            "This program is a frozen application, which finds only those backends whose metadata "
            "was packed with it (PyInstaller: --copy-metadata core-onnx-backend)."
        )
    commands = ", ".join(f"`{command}`" for command in INSTALL_COMMANDS.values())
    return f"Install one with {commands}."
