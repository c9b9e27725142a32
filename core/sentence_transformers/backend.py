"""The three export functions: `core.optimize` and `core.quantize` under the reference's names."""

from __future__ import annotations

from typing import Any

from core.api import optimize, quantize
from core.arguments import check_flag, check_path
from core.artifacts.artifact import Artifact
from core.errors import OptionError
from core.machine.surroundings import temporary_directory
from core.models.model import Model
from core.texts.calibration import DATASET_ARGUMENTS

_LEVELS = ("O1", "O2", "O3", "O4")
_PRESETS = ("arm64", "avx2", "avx512", "avx512_vnni")


def export_optimized_onnx_model(
    model: Any,
    optimization_config: Any,
    model_name_or_path: str,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
) -> None:
    """Write `onnx/model_O3.onnx` (or O1, O2, O4) of a model loaded with `backend="onnx"`.

    Args:
        model: A model of this package, or a `core.Model`.
        optimization_config: `"O1"` to `"O4"`, or a configuration object.
        model_name_or_path: The directory it is written to; with `push_to_hub` the repository.
        push_to_hub: Upload it instead of writing it.
        create_pr: Upload as a pull request.
        file_suffix: Of the file's name; None for the preset's, or `optimized`.

    Raises:
        OptionError: Another backend's model, or an unknown preset. It is a ValueError too.
        VerificationError: The result disagrees with the model; nothing is written.
    """
    loaded = _model_of(model, "onnx")
    _check_name("optimization_config", optimization_config, _LEVELS)
    _write(
        optimize, loaded, optimization_config, model_name_or_path, push_to_hub, create_pr,
        file_suffix=file_suffix,
    )  # fmt: skip


def export_dynamic_quantized_onnx_model(
    model: Any,
    quantization_config: Any,
    model_name_or_path: str,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str | None = None,
) -> None:
    """Write `onnx/model_qint8_avx512_vnni.onnx`, `onnx/model_quint8_avx2.onnx`, ...

    Args:
        model: A model of this package, or a `core.Model`.
        quantization_config: `"arm64"`, `"avx2"`, `"avx512"`, `"avx512_vnni"`, or a configuration
            object.
        model_name_or_path: The directory it is written to; with `push_to_hub` the repository.
        push_to_hub: Upload it instead of writing it.
        create_pr: Upload as a pull request.
        file_suffix: Of the file's name; None for the preset's.

    Raises:
        OptionError: Another backend's model, or an unknown preset. It is a ValueError too.
    """
    loaded = _model_of(model, "onnx")
    _check_name("quantization_config", quantization_config, _PRESETS)
    _write(
        quantize, loaded, quantization_config, model_name_or_path, push_to_hub, create_pr,
        file_suffix=file_suffix,
    )  # fmt: skip


def export_static_quantized_openvino_model(
    model: Any,
    quantization_config: Any,
    model_name_or_path: str,
    dataset_name: str | None = None,
    dataset_config_name: str | None = None,
    dataset_split: str | None = None,
    column_name: str | None = None,
    push_to_hub: bool = False,
    create_pr: bool = False,
    file_suffix: str = "qint8_quantized",
) -> None:
    """Write `openvino/openvino_model_qint8_quantized.xml` and `.bin`.

    Args:
        model: A model of this package, or a `core.Model`.
        quantization_config: None, a mapping, or a configuration object.
        model_name_or_path: The directory it is written to; with `push_to_hub` the repository.
        dataset_name, dataset_config_name, dataset_split, column_name: Texts to calibrate with, by
            the library `datasets`: all four or none. With none the backend's own texts are used,
            which cover more lengths than the reference's default and need no download; for that
            default name it: `"nyu-mll/glue", "sst2", "train", "sentence"`.
        push_to_hub: Upload it instead of writing it.
        create_pr: Upload as a pull request.
        file_suffix: Of the file's name.

    Raises:
        OptionError: Another backend's model, or some but not all dataset arguments.
    """
    loaded = _model_of(model, "openvino")
    described = (dataset_config_name, dataset_split, column_name)
    named = [value is not None for value in (dataset_name, *described)]
    if any(named) and not all(named):
        raise OptionError(
            "dataset_name, dataset_config_name, dataset_split and column_name go together: give "
            "all four, or none for the backend's own calibration texts."
        )
    dataset: dict[str, Any] = {}
    if dataset_name is not None:
        dataset = dict(zip(DATASET_ARGUMENTS, described, strict=True))
        dataset["calibration"] = dataset_name
    _write(
        quantize, loaded, quantization_config, model_name_or_path, push_to_hub, create_pr,
        file_suffix=file_suffix, **dataset,
    )  # fmt: skip


def _model_of(model: Any, backend: str) -> Model:
    found = getattr(model, "embedding_model", model)
    if not isinstance(found, Model):
        raise OptionError(
            "The model must be a SentenceTransformer, a CrossEncoder, a SparseEncoder or a "
            "MultiVectorEncoder of "
            f"core.sentence_transformers, not {type(model).__module__}.{type(model).__name__}."
        )
    if found.backend != backend:
        raise OptionError(
            f"The model runs on the {found.backend} backend: load it with backend={backend!r}."
        )
    return found


def _check_name(name: str, config: Any, names: tuple[str, ...]) -> None:
    if config is None or (isinstance(config, str) and config not in names):
        listed = ", ".join(map(repr, names))
        raise OptionError(f"{name} must be one of {listed} or an object, not {config!r}.")


def _write(
    operation: Any,
    model: Model,
    config: Any,
    place: str,
    push_to_hub: bool,
    create_pr: bool,
    **options: Any,
) -> Artifact:
    """To the directory, or, uploading, to the repository alone."""
    check_flag("push_to_hub", push_to_hub)
    if not push_to_hub:
        target = check_path("model_name_or_path", place)
        artifact: Artifact = operation(model, config, target, **options)
        return artifact
    with temporary_directory("core-export-") as folder:
        pushed: Artifact = operation(
            model, config, folder, push_to_hub=str(place), create_pr=bool(create_pr), **options
        )
    return pushed
