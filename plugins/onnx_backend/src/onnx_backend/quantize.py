"""Quantize: int8 for this processor, ONNX Runtime's own dynamic and static int8, float16."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core import Artifact, LoadOptions, Model, OptimizeOptions, QuantizeOptions, TokenBatch
from core.errors import OptionError, UnsupportedOperation
from core.toolkit import (
    QUANTIZED_OPERATORS,
    announce,
    calibration_batches,
    check_names,
    choose_samples,
    choose_varied_samples,
    derived_name,
    has_floor,
    installed_versions,
    keep_sensitive_layers,
)
from onnx_backend.calibration import BatchReader
from onnx_backend.files import copied_path, plain_path, read_model, save_model, write_model
from onnx_backend.int8 import Int8Graphs
from onnx_backend.optimize import optimize_model
from onnx_backend.presets import (
    DEFAULT_NAME,
    INT8_SAMPLES,
    QUANTIZE_CONFIGS,
    better_preset,
    choose_preset,
)
from onnx_backend.quiet import quiet_calibration, quiet_tools
from onnx_backend.rewriting.heads import head_nodes
from onnx_backend.rewriting.nodes import name_nodes
from onnx_backend.rewriting.products import find_products
from onnx_backend.rewriting.values import state_types
from onnx_backend.session import OnnxRuntime, onnx_file

logger = logging.getLogger("core")

_NAMES = ", ".join(QUANTIZE_CONFIGS)

#: Suffix of the file that `"auto"` makes.
_AUTO_SUFFIX = "qint8"
PRESETS = ("arm64", "avx2", "avx512", "avx512_vnni")
QUANTIZE_OPTIONS = ("external_data",)
#: Texts that static quantization runs by default; ranges hardly move after them.
DEFAULT_SAMPLES = 300
#: ONNX Runtime's fourth, Distribution, is for float8 weights: with int8 it is a wider MinMax.
CALIBRATION_METHODS = ("MinMax", "Entropy", "Percentile")
_WEIGHT_TYPES = ("QInt8", "QUInt8")


@dataclass(frozen=True)
class Settings:
    """How to quantize.

    Attributes:
        name: Last part of the file's suffix: a preset, "quantized" or "static".
        weights: ONNX Runtime's QuantType of the weights: "QInt8" or "QUInt8".
        activations: The same of the activations.
        per_channel: One scale per column of a weight, not one per weight.
        reduce_range: Seven bits for weights, against overflow on old processors.
        is_static: Activation ranges from calibration instead of from each batch.
        method: Of `CALIBRATION_METHODS`, for static quantization.
        operators: Which operators; None for the default.
        exclude: Nodes left in float32.
    """

    name: str
    weights: str = "QInt8"
    activations: str = "QUInt8"
    weights_symmetric: bool = True
    activations_symmetric: bool = False
    per_channel: bool = True
    reduce_range: bool = False
    is_static: bool = False
    method: str = "MinMax"
    operators: tuple[str, ...] | None = None
    exclude: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        return f"{self.weights.lower()}_{self.name}"


def quantize_model(model: Model, target: Path, options: QuantizeOptions) -> Artifact:
    """Write the quantized graph beside the name of the file it was made from."""
    runtime = onnx_file(model, "quantize")
    extra = options.backend_kwargs
    check_names(extra, QUANTIZE_OPTIONS, "quantize of the onnx backend")
    if options.config == "fp16":
        _refuse_calibration(options.calibration is not None, "'fp16' has no ranges to find")
        plain = OptimizeOptions(
            config="fp16", file_suffix=options.file_suffix, backend_kwargs=extra
        )
        return optimize_model(model, target, plain)
    if options.config in (None, "auto"):
        return _int8(model, runtime, target, options)
    settings = read_settings(options.config, options.calibration is not None)
    _check_source(runtime)
    batches: Sequence[TokenBatch] = ()
    if settings.is_static:
        texts = choose_samples(options.calibration, options.num_samples or DEFAULT_SAMPLES)
        announce(f"finding activation ranges in {len(texts)} texts")
        batches = calibration_batches(model, texts)
    elif has_floor(model, options.min_cosine):
        batches = calibration_batches(model, choose_varied_samples(None, INT8_SAMPLES))

    def write(kept: Collection[str], folder: Path) -> Path:
        return _write_preset(runtime, target, folder, settings, kept, batches)

    written, floor = _above_floor(
        model, target, options, lambda: _layers(runtime, target), write, batches
    )
    name = derived_name(runtime.files[0], options.file_suffix or settings.suffix, DEFAULT_NAME)
    files = write_model(written, target, name, external_data=extra.get("external_data"))
    return Artifact(
        root=target,
        file_name=name,
        files=files,
        precision="int8",
        config={
            "preset": settings.name,
            "weights": settings.weights,
            "activations": settings.activations,
            "per_channel": settings.per_channel,
            "reduce_range": settings.reduce_range,
            "static": settings.is_static,
            **(
                {
                    "method": settings.method,
                    "texts": len(texts),
                    "own_texts": options.calibration is None,
                }
                if settings.is_static
                else {}
            ),
            **floor,
        },
        versions=installed_versions("onnx", "onnxruntime"),
    )


def _int8(model: Model, runtime: OnnxRuntime, target: Path, options: QuantizeOptions) -> Artifact:
    """`"auto"`: smoothed and static, or row by row."""
    _check_source(runtime)
    extra = options.backend_kwargs
    texts = choose_varied_samples(options.calibration, options.num_samples or INT8_SAMPLES)
    announce(f"finding activation ranges in {len(texts)} texts")
    batches = calibration_batches(model, texts)
    with _scratch(target) as place:
        source = read_model(plain_path(runtime, target))
        graphs = Int8Graphs(source, runtime.graph, batches, place)

    def write(kept: Collection[str], folder: Path) -> Path:
        return folder / save_model(graphs.make(kept), folder, "model.onnx")[0]

    written, floor = _above_floor(model, target, options, lambda: graphs.layers, write, batches)
    name = derived_name(runtime.files[0], options.file_suffix or _AUTO_SUFFIX, DEFAULT_NAME)
    files = write_model(written, target, name, external_data=extra.get("external_data"))
    return Artifact(
        root=target,
        file_name=name,
        files=files,
        precision="int8",
        config={
            "preset": "auto",
            **graphs.as_json(),
            "texts": len(texts),
            "own_texts": options.calibration is None,
            **floor,
        },
        versions=installed_versions("onnx", "onnxruntime"),
    )


def _above_floor(
    model: Model,
    target: Path,
    options: QuantizeOptions,
    layers: Callable[[], Sequence[Sequence[str]]],
    write: Callable[[Collection[str], Path], Path],
    batches: Sequence[TokenBatch],
) -> tuple[Path, dict[str, Any]]:
    """The file that keeps to `min_cosine`, and what the sidecar says of that.

    Args:
        write: Writes the model with these products in floating point to an empty folder.
    """
    kept: tuple[str, ...] = ()
    floor: dict[str, Any] = {}
    if options.min_cosine is not None and has_floor(model, options.min_cosine):

        @contextmanager
        def open_variant(names: frozenset[str]) -> Iterator[OnnxRuntime]:
            with _scratch(target) as place:
                folder = place / "made"
                folder.mkdir()
                write_model(write(names, folder), place, DEFAULT_NAME)
                source = model.source.overlay(place)
                load = LoadOptions(file_name=DEFAULT_NAME, device="cpu")
                with closing(OnnxRuntime.open(source, source.architecture, load)) as runtime:
                    yield runtime

        found = keep_sensitive_layers(model, layers(), open_variant, batches, options.min_cosine)
        kept, floor = found.layers, found.as_json()
    folder = target / ".quantize"
    folder.mkdir()
    return write(kept, folder), floor


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A folder of `target` that is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=target, ignore_cleanup_errors=True) as place:
        yield Path(place)


def _layers(runtime: OnnxRuntime, target: Path) -> list[tuple[str, ...]]:
    """Names of the nodes that a preset may leave in floating point."""
    with _scratch(target) as place:
        model = read_model(plain_path(runtime, place))
        name_nodes(model)
        found = find_products(model, place)
    layers = [entry.products for entry in found]
    rest = {node.name: node.op_type for node in model.graph.node}
    for name in (name for entry in layers for name in entry):
        del rest[name]
    # Products inside attention, and tables of embeddings.
    for operators in (("MatMul", "Gemm", "Attention"), ("Gather", "EmbedLayerNormalization")):
        layers.append(tuple(name for name, operator in rest.items() if operator in operators))
    return [entry for entry in layers if entry]


def _write_preset(
    runtime: OnnxRuntime,
    target: Path,
    folder: Path,
    settings: Settings,
    kept: Collection[str],
    batches: Sequence[TokenBatch],
) -> Path:
    """The file that ONNX Runtime's own quantization writes to `folder`.

    Args:
        kept: Nodes that stay in floating point besides those that do by the settings.
    """
    written = folder / "model.onnx"
    external = bool(runtime.file.external)
    with quiet_tools(), _scratch(target) as place:
        if settings.is_static:
            path = _typed(plain_path(runtime, place), place)
            reader = BatchReader(runtime.graph, batches)
            _quantize_static(settings, kept, reader, path, written, external)
        else:
            # It writes a file beside the one it reads, and removes that again.
            path = _named(copied_path(runtime, place))
            _quantize_dynamic(path, settings, kept, written, external)
    return written


def read_settings(config: Any, calibrated: bool) -> Settings:
    """A preset's name, a mapping, or an object like Optimum's `QuantizationConfig`.

    Raises:
        OptionError: Neither, or with values that are not understood.
    """
    if isinstance(config, str):
        return _preset(config, calibrated)
    if isinstance(config, Mapping):
        values = dict(config)
        check_names(values, _CONFIG_NAMES, "a quantization config")
    elif hasattr(config, "weights_dtype") and hasattr(config, "is_static"):
        values = {name: getattr(config, name) for name in _CONFIG_NAMES if hasattr(config, name)}
    else:
        raise OptionError(
            f"config must be one of {_NAMES}, a mapping or a QuantizationConfig, not {config!r}."
        )
    return _from_values(values, calibrated)


def _preset(name: str, calibrated: bool) -> Settings:
    chosen = choose_preset() if name == "static" else name
    if chosen not in PRESETS:
        raise OptionError(
            f"The onnx backend quantizes to {_NAMES} or with a configuration object, not {name!r}."
        )
    better = better_preset(chosen)
    if better is not None:
        logger.warning(
            "This processor lacks the instructions of %r, so its int8 results may saturate and "
            "its speed be lower here; %r is for this processor. Use the file where those "
            "instructions are.",
            chosen,
            better,
        )
    # The preset "avx2" is the reference's, with unsigned weights.
    settings = Settings(chosen, weights="QUInt8" if chosen == "avx2" else "QInt8")
    if name != "static" and not calibrated:
        return settings
    return replace(settings, name=f"{chosen}_static", is_static=True)


#: Attributes of Optimum's QuantizationConfig that are honored; mappings take them too.
_CONFIG_NAMES = (
    "is_static",
    "weights_dtype",
    "weights_symmetric",
    "activations_dtype",
    "activations_symmetric",
    "per_channel",
    "reduce_range",
    "operators_to_quantize",
    "nodes_to_exclude",
    "method",
)


def _from_values(values: Mapping[str, Any], calibrated: bool) -> Settings:
    method = values.get("method", "MinMax")
    method = str(getattr(method, "name", method))
    if method not in CALIBRATION_METHODS:
        listed = ", ".join(CALIBRATION_METHODS)
        raise OptionError(f"method must be one of {listed}, not {method!r}.")
    operators = values.get("operators_to_quantize")
    is_static = bool(values.get("is_static", calibrated))
    _refuse_calibration(calibrated and not is_static, "is_static=False finds ranges in each batch")
    return Settings(
        name="quantized",
        weights=_type_name(values.get("weights_dtype", "QInt8"), "weights_dtype"),
        activations=_type_name(values.get("activations_dtype", "QUInt8"), "activations_dtype"),
        weights_symmetric=bool(values.get("weights_symmetric", True)),
        activations_symmetric=bool(values.get("activations_symmetric", False)),
        per_channel=bool(values.get("per_channel", True)),
        reduce_range=bool(values.get("reduce_range", False)),
        is_static=is_static,
        method=method,
        operators=tuple(operators) if operators else None,
        exclude=tuple(values.get("nodes_to_exclude") or ()),
    )


def _refuse_calibration(given: bool, why: str) -> None:
    if given:
        raise OptionError(
            f"Calibration texts are for static int8, which takes activation ranges from them; {why}"
            ". Leave out calibration, or choose a preset, 'static' or is_static=True."
        )


def _type_name(value: Any, name: str) -> str:
    text = str(getattr(value, "name", value))
    for known in _WEIGHT_TYPES:
        if text.lower().removeprefix("q") == known.lower().removeprefix("q"):
            return known
    raise OptionError(f"{name} must be QInt8 or QUInt8, not {value!r}.")


def _check_source(runtime: OnnxRuntime) -> None:
    file, name = runtime.file, runtime.files[0]
    if file.is_quantized:
        found = sorted(set(file.operators) & set(QUANTIZED_OPERATORS))
        raise UnsupportedOperation(
            f"{name} is quantized already (it has {', '.join(found)}). Load the float32 file it "
            "was made from (file_name=...) and quantize that."
        )
    if file.dtype != "float32":
        raise UnsupportedOperation(
            f"{name} computes in {file.dtype}; int8 is made from float32. Load the float32 file "
            "(file_name=...) and quantize that."
        )


def _named(path: Path) -> Path:
    """A copy whose nodes all have names: by those nodes are left in floating point."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    if not all(node.name for node in model.graph.node):
        name_nodes(model)
        onnx.save(model, str(path))
    return path


def _quantize_dynamic(
    path: Path, settings: Settings, kept: Collection[str], written: Path, external: bool
) -> None:
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        str(path),
        str(written),
        op_types_to_quantize=list(settings.operators) if settings.operators else None,
        nodes_to_exclude=[*sorted({*settings.exclude, *kept}), *_heads(path)],
        per_channel=settings.per_channel,
        reduce_range=settings.reduce_range,
        weight_type=getattr(QuantType, settings.weights),
        use_external_data_format=external,
        extra_options={
            "WeightSymmetric": settings.weights_symmetric,
            "ActivationSymmetric": settings.activations_symmetric,
            # ONNX Runtime's default leaves the products inside attention in float32.
            "MatMulConstBOnly": False,
            # Shape inference does not know the fused operators of an optimized graph.
            "DefaultTensorType": onnx.TensorProto.FLOAT,
        },
    )


def _heads(path: Path) -> list[str]:
    """Nodes of the heads of a file."""
    import onnx

    return head_nodes(onnx.load(str(path), load_external_data=False).graph)


def _typed(path: Path, target: Path) -> Path:
    """The file with the types of its inner values stated: only what has one is calibrated."""
    folder = target / ".typed"
    folder.mkdir()
    model = read_model(path)
    name_nodes(model)
    state_types(model, folder)
    return folder / save_model(model, folder, "model.onnx")[0]


#: Quantized statically: products with weights. Sums, norms and softmax cost little and lose much.
_STATIC_OPERATORS = ("MatMul", "Gemm")


def _quantize_static(
    settings: Settings,
    kept: Collection[str],
    reader: BatchReader,
    path: Path,
    written: Path,
    external: bool,
) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with quiet_calibration():
        quantize_static(
            str(path),
            str(written),
            reader,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(settings.operators or _STATIC_OPERATORS),
            nodes_to_exclude=[
                *(settings.exclude or narrowing_products(path)),
                *sorted(kept),
                *_heads(path),
            ],
            per_channel=settings.per_channel,
            reduce_range=settings.reduce_range,
            activation_type=getattr(QuantType, settings.activations),
            weight_type=getattr(QuantType, settings.weights),
            calibrate_method=getattr(CalibrationMethod, settings.method),
            use_external_data_format=external,
            extra_options={
                "WeightSymmetric": settings.weights_symmetric,
                "ActivationSymmetric": settings.activations_symmetric,
                "MatMulConstBOnly": True,
                "DefaultTensorType": onnx.TensorProto.FLOAT,
                # One batch at a time: several become one array, and their shapes differ.
                "CalibStridedMinMax": 1,
            },
        )


def narrowing_products(path: Path) -> list[str]:
    """Products that make their input narrower: the feed-forward layers' second ones.

    What they take has outliers that one range for all texts cannot hold: quantized as well, the
    embeddings of all-MiniLM-L6-v2 fall from a mean cosine of 0.991 to 0.944.
    """
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    found = []
    for node in graph.node:
        shape = shapes.get(node.input[1], ()) if node.op_type in _STATIC_OPERATORS else ()
        if len(shape) == 2 and shape[0] > shape[1]:
            found.append(node.name)
    return found
