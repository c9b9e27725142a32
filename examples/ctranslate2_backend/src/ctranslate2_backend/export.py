"""Export: a checkpoint's weights in CTranslate2's format."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import ctranslate2
from ctranslate2.converters import TransformersConverter

from core import Artifact, Checkpoint, ExportOptions
from core.errors import OptionError, UnsupportedOperation
from core.toolkit import check_names
from ctranslate2_backend.session import COMPANIONS

#: core's names of precisions, and CTranslate2's.
_QUANTIZATION = {"fp32": None, "fp16": "float16", "int8": "int8"}
_CONFIGURATION = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


class _Converter(TransformersConverter):  # type: ignore[misc]  # it has no types
    """For transformers 5, whose configurations no longer name the one kind of positions left."""

    def load_model(self, model_class: Any, model_name_or_path: str, **arguments: Any) -> Any:
        model = super().load_model(model_class, model_name_or_path, **arguments)
        if not hasattr(model.config, "position_embedding_type"):
            model.config.position_embedding_type = "absolute"
        return model


def convert(source: Checkpoint, target: Path, options: ExportOptions) -> Artifact:
    """Write `ctranslate2/model.bin`, or `ctranslate2-<precision>/model.bin`."""
    check_names(options.backend_kwargs, (), "export of the ctranslate2 backend")
    if options.file_name is not None or options.exporter != "direct":
        raise OptionError("The ctranslate2 backend names its files itself and has one exporter.")
    suffix = "" if options.precision == "fp32" else f"-{options.precision}"
    folder = f"ctranslate2{suffix}"
    converter = _Converter(
        str(_checkpoint_folder(source)), trust_remote_code=options.trust_remote_code
    )
    try:
        converter.convert(
            str(target / folder), quantization=_QUANTIZATION[options.precision], force=True
        )
    except ValueError as error:  # no conversion is registered for the architecture
        raise UnsupportedOperation(
            f"CTranslate2 cannot convert {source}: {error}. Use another backend for this model."
        ) from error
    return Artifact(
        root=target,
        file_name=f"{folder}/model.bin",
        files=tuple(f"{folder}/{name}" for name in COMPANIONS),
        precision=options.precision,
        config={"quantization": _QUANTIZATION[options.precision]},
        versions={"ctranslate2": ctranslate2.__version__},
    )


def _checkpoint_folder(source: Checkpoint) -> Path:
    """A directory with the transformer's files, weights in one format."""
    path = source.architecture.path
    prefix = f"{path}/" if path else ""
    names = [name.removeprefix(prefix) for name in source.names if name.startswith(prefix)]
    top = [name for name in names if "/" not in name]
    wanted = [n for n in top if any(fnmatchcase(n, pattern) for pattern in _CONFIGURATION)]
    for pattern in _WEIGHTS:
        weights = [name for name in top if fnmatchcase(name, pattern)]
        if weights:
            return source.folder([prefix + name for name in (*wanted, *weights)]) / path
    raise UnsupportedOperation(f"{source} has no PyTorch weights to convert.")
