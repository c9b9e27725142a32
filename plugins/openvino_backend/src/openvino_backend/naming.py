"""Names of files made from another file."""

from __future__ import annotations

from pathlib import PurePosixPath


def derived_name(file_name: str, suffix: str) -> str:
    """`openvino/openvino_model_<suffix>.xml`, beside what it was made from."""
    path = PurePosixPath(file_name)
    folder = "openvino" if path.suffix == ".onnx" or path.parent == PurePosixPath() else path.parent
    stem = "openvino_model" if path.suffix == ".onnx" else path.stem
    return str(PurePosixPath(folder) / f"{stem}_{suffix}.xml")
