"""Names of the files that operations write."""

from __future__ import annotations

import importlib.metadata
from pathlib import PurePosixPath

from core.errors import ModelFormatError, OptionError
from core.files.paths import check_relative


def artifact_name(file_name: str | None, default: str) -> str:
    """Where a new file goes, relative to the target: as asked, or `default`.

    Call it before any work, which may take minutes.

    Raises:
        OptionError: `file_name` leads out of the target, or has another ending than `default`.
    """
    name = default if file_name is None else file_name
    ending = PurePosixPath(default).suffix
    if PurePosixPath(name).suffix != ending:
        raise OptionError(
            f"file_name={name!r} must end in {ending}, as in {default!r}, so that the file is "
            "found again and does not take another file's place."
        )
    try:
        check_relative(name, "file_name")
    except ModelFormatError as error:
        raise OptionError(
            f"file_name={name!r} must lie inside the target directory: give a relative path "
            "without '..', and the directory itself as target."
        ) from error
    return name


def derived_name(file_name: str, suffix: str, default: str) -> str:
    """The name of what is made from a file: beside it, or where `default` lies.

    `onnx/model.onnx` gives `onnx/model_O3.onnx`, and that `onnx/model_O3_quint8_avx2.onnx`.

    Args:
        file_name: What it is made from, relative to the checkpoint.
        suffix: Tells the configuration.
        default: The backend's own name for its file. A file of another format is named after it.
    """
    path, own = PurePosixPath(file_name), PurePosixPath(default)
    if path.suffix != own.suffix:
        path = own
    folder = own.parent if path.parent == PurePosixPath() else path.parent
    return str(folder / f"{path.stem}_{suffix}{own.suffix}")


def installed_versions(*names: str) -> dict[str, str]:
    """Versions of installed distributions; what is not installed is left out."""
    found = {}
    for name in names:
        for distribution in (name, f"{name}-gpu"):
            try:
                found[name] = importlib.metadata.version(distribution)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
    return found
