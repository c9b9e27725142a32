"""How to install the backends of this repository; third parties' are found, not listed."""

from __future__ import annotations

#: Backend to the command that installs it.
INSTALL_COMMANDS = {
    "torch": "pip install core[torch]",
    "onnx": "pip install core[onnx]",
    "openvino": "pip install core[openvino]",
}


def install_hint() -> str:
    """The sentence that tells how to install a backend."""
    commands = ", ".join(f"`{command}`" for command in INSTALL_COMMANDS.values())
    return f"Install one with {commands}."
