"""Quantize: int8 for this processor, static int8 through nncf, and weight-only compression."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import Artifact, LoadOptions, Model, QuantizeOptions, TokenBatch
from core.errors import OptionError, UnsupportedOperation, VerificationError
from core.toolkit import (
    DATASET_ARGUMENTS,
    INT8_INSTRUCTIONS,
    announce,
    as_numpy,
    calibration_batches,
    check_names,
    choose_samples,
    choose_varied_samples,
    derived_name,
    has_floor,
    keep_sensitive_layers,
    processor_flags,
    run_modules,
    unit_length,
)
from openvino_backend.calibration import feed
from openvino_backend.compress import compress_weights, compression_settings
from openvino_backend.device import PRECISION_HINT, cpu_threads
from openvino_backend.files import graph_names, read_graph, write_graph
from openvino_backend.graph import graph_precision, outputs, quantizes_activations
from openvino_backend.imports import import_nncf, openvino
from openvino_backend.int8 import Int8Graphs
from openvino_backend.presets import (
    DEFAULT_NAME,
    INT8_SAMPLES,
    QUANTIZE_CONFIGS,
    SUFFIXES,
    StaticConfig,
    read_config,
)
from openvino_backend.quiet import quiet
from openvino_backend.rewriting.heads import head_operations
from openvino_backend.rewriting.products import find_products
from openvino_backend.session import OpenVINORuntime

logger = logging.getLogger("core")

#: Accuracy control sets aside one in this many texts to measure with.
_VALIDATION_SHARE = 4


def quantize_model(model: Model, target: Path, options: QuantizeOptions) -> Artifact:
    """Write `openvino/openvino_model_qint8_quantized.xml`, or what another configuration names."""
    if model.file_name is None:
        raise UnsupportedOperation(f"{model!r} is a table of static embeddings: no graph.")
    given = dict(options.backend_kwargs)
    stray = [name for name in ("dataset_name", *DATASET_ARGUMENTS) if name in given]
    if stray:
        raise OptionError(
            f"{', '.join(stray)} without a dataset's name: pass calibration='its/name' with "
            f"{', '.join(DATASET_ARGUMENTS)}, or none of them."
        )
    config = next(iter(QUANTIZE_CONFIGS)) if options.config is None else options.config
    # nncf's options without a configuration are those of static int8, as they always were.
    if config == "int8" and given:
        config = "static"
    if isinstance(config, str) and config in SUFFIXES:
        check_names(given, (), f"quantize {config!r} of the openvino backend")
        return _int8(model, target, options, config)
    if config in ("int8-weights", "int4-weights"):
        return _compress(model, target, replace(options, config=config), given)
    static, dataset = read_config(config, given, options.num_samples)
    if dataset is not None and options.calibration is not None:
        raise OptionError(
            "The configuration has a dataset, and calibration is given as well: pass one of them."
        )
    calibration = options.calibration if dataset is None else dataset
    nncf = import_nncf("Static quantization")
    _warn_of_slow_int8()
    graph = _source_graph(model)
    texts = choose_samples(calibration, static.num_samples)
    announce(f"finding activation ranges in {len(texts)} texts")
    batches = calibration_batches(model, texts)

    def make(kept: Collection[str]) -> Any:
        with quiet():
            return _quantize(nncf, graph, model, batches, static, kept)

    made, floor = _above_floor(model, target, options, _layers(graph), make, batches)
    suffix = "qint8_static" if options.config == "static" else "qint8_quantized"
    name = derived_name(model.file_name, options.file_suffix or suffix, DEFAULT_NAME)
    record = {**static.as_json(), "texts": len(texts), "own_texts": calibration is None, **floor}
    return _write(made, target, name, "int8", record, {"nncf": nncf.__version__})


def _int8(model: Model, target: Path, options: QuantizeOptions, config: str) -> Artifact:
    """One of `SUFFIXES`."""
    graph = _source_graph(model)
    if not find_products(graph):
        raise UnsupportedOperation(f"{model.file_name} has no products with weights to quantize.")
    texts = choose_varied_samples(options.calibration, options.num_samples or INT8_SAMPLES)
    announce(f"finding activation ranges in {len(texts)} texts")
    batches = calibration_batches(model, texts)
    graphs = Int8Graphs(graph, config, batches, model.runtime.input_names)
    made, floor = _above_floor(model, target, options, graphs.layers, graphs.make, batches)
    assert model.file_name is not None
    name = derived_name(model.file_name, options.file_suffix or SUFFIXES[config], DEFAULT_NAME)
    record = {
        "scheme": config,
        **graphs.as_json(),
        "texts": len(texts) if graphs.calibrated else 0,
        "own_texts": options.calibration is None,
        **floor,
    }
    return _write(made, target, name, "int8", record)


def _layers(graph: Any) -> list[tuple[str, ...]]:
    return [entry.products for entry in find_products(graph)]


def _above_floor(
    model: Model,
    target: Path,
    options: QuantizeOptions,
    layers: Sequence[Sequence[str]],
    make: Callable[[Collection[str]], Any],
    batches: Sequence[TokenBatch],
) -> tuple[Any, dict[str, Any]]:
    """The graph that keeps to `min_cosine`, and what the sidecar says of that.

    Args:
        make: The graph with these products in floating point.
    """
    if options.min_cosine is None or not has_floor(model, options.min_cosine):
        return make(()), {}

    @contextmanager
    def open_variant(kept: frozenset[str]) -> Iterator[OpenVINORuntime]:
        with tempfile.TemporaryDirectory(dir=target, ignore_cleanup_errors=True) as place:
            write_graph(make(kept), Path(place), DEFAULT_NAME)
            source = model.source.overlay(Path(place))
            load = LoadOptions(file_name=DEFAULT_NAME, device="cpu")
            with closing(OpenVINORuntime.open(source, source.architecture, load)) as runtime:
                yield runtime

    kept = keep_sensitive_layers(model, layers, open_variant, batches, options.min_cosine)
    return make(kept.layers), kept.as_json()


def _warn_of_slow_int8() -> None:
    flags = processor_flags()
    if flags and not flags & INT8_INSTRUCTIONS:
        logger.warning(
            "This processor has no int8 dot products (VNNI, AMX): OpenVINO runs static int8 no "
            "faster than fp32 here. 'int8-weights' makes files as small, hardly drifts, and is the "
            "faster one for short batches. Quantize statically for processors that have them."
        )


def _source_graph(model: Model) -> Any:
    assert model.file_name is not None
    graph = read_graph(openvino.Core(), model.source, model.file_name).model
    stored = graph_precision(graph)
    if quantizes_activations(graph) or stored in ("int8", "int4"):
        raise UnsupportedOperation(
            f"{model.file_name} is quantized already ({stored}). Quantize the full-precision file: "
            "core.load(..., file_name='openvino/openvino_model.xml')."
        )
    return graph


def _compress(
    model: Model, target: Path, options: QuantizeOptions, given: Mapping[str, Any]
) -> Artifact:
    if options.calibration is not None or options.num_samples is not None:
        raise OptionError(
            f"{options.config!r} needs no calibration texts; leave out calibration and num_samples."
        )
    if has_floor(model, options.min_cosine):
        batches = calibration_batches(model, choose_varied_samples(None, INT8_SAMPLES))
    else:
        batches = []
    precision = options.config.partition("-")[0]
    what = f"quantize {options.config!r} of the openvino backend"
    settings = compression_settings(precision, given, what)
    nncf = import_nncf(f"Compressing weights to {precision}")
    graph = _source_graph(model)

    def make(kept: Collection[str]) -> Any:
        return compress_weights(graph, precision, settings, kept)

    compressed, floor = _above_floor(model, target, options, _layers(graph), make, batches)
    assert model.file_name is not None
    name = derived_name(
        model.file_name, options.file_suffix or f"{precision}_weights", DEFAULT_NAME
    )
    record = {**settings, **floor}
    return _write(compressed, target, name, precision, record, {"nncf": nncf.__version__})


def _write(
    graph: Any,
    target: Path,
    name: str,
    precision: str,
    config: Mapping[str, Any],
    versions: Mapping[str, str] = MappingProxyType({}),
) -> Artifact:
    write_graph(graph, target, name)
    return Artifact(
        root=target,
        file_name=name,
        files=graph_names(name),
        precision=precision,
        config=config,
        versions={"openvino": openvino.__version__, **versions},
    )


def _quantize(
    nncf: Any,
    graph: Any,
    model: Model,
    batches: Sequence[TokenBatch],
    static: StaticConfig,
    kept: Collection[str],
) -> Any:
    names = model.runtime.input_names
    arguments = _arguments(nncf, static, {*kept, *head_operations(graph)})
    try:
        if static.max_drop is None:
            data = nncf.Dataset([feed(batch, names) for batch in batches])
            return nncf.quantize(graph, data, subset_size=len(batches), **arguments)
        return _with_accuracy_control(nncf, graph, model, batches, static.max_drop, arguments)
    except (RuntimeError, ValueError, nncf.ValidationError) as error:
        raise OptionError(
            f"nncf cannot quantize {model.file_name} with {static}: {error}"
        ) from error


def _arguments(nncf: Any, static: StaticConfig, kept: Collection[str]) -> dict[str, Any]:
    """What nncf is told; `kept` operations stay in float32."""
    advanced = nncf.AdvancedQuantizationParameters(
        overflow_fix=nncf.OverflowFix(static.overflow_fix)
    )
    alphas = advanced.smooth_quant_alphas
    if static.max_drop is not None:
        # nncf 3.4 restores the weights from before smoothing but keeps the factors on the
        # activations that belong to the smoothed ones: far worse than what had to be fixed.
        alphas.matmul = alphas.convolution = -1
    elif static.smooth_quant_alpha is not None:
        alphas.matmul = static.smooth_quant_alpha
    scope = {name: list(values) for name, values in static.ignored_scope.items()}
    scope["names"] = sorted({*scope.get("names", ()), *kept})
    return {
        "preset": nncf.QuantizationPreset("performance" if static.sym else "mixed"),
        "model_type": nncf.ModelType.TRANSFORMER,
        "fast_bias_correction": static.fast_bias_correction,
        "ignored_scope": nncf.IgnoredScope(**scope),
        "advanced_parameters": advanced,
    }


def _with_accuracy_control(
    nncf: Any,
    graph: Any,
    model: Model,
    batches: Sequence[TokenBatch],
    max_drop: float,
    arguments: dict[str, Any],
) -> Any:
    """Quantize, measuring the mean cosine to the source on a part of the texts that is set aside.

    Raises:
        VerificationError: nncf could not keep the drop within `max_drop`.
    """
    if model.source.architecture.kind != "embedding" or outputs(graph)[0] is None:
        raise UnsupportedOperation(
            f"max_drop needs an embedding model's token embeddings, which {model.file_name} does "
            "not give. Leave it out: the drift is measured in any case."
        )
    names = model.runtime.input_names
    aside = batches[::_VALIDATION_SHARE]
    kept = [batch for i, batch in enumerate(batches) if i % _VALIDATION_SHARE] or list(batches)
    expected = [unit_length(np, model.runtime.sentence_embeddings(batch)) for batch in aside]

    def similarity(compiled: Any, numbers: Iterable[int]) -> tuple[float, list[float]]:
        means = [_agreement(compiled, model, aside[i], expected[i], names) for i in numbers]
        return float(np.mean(means)), means

    arguments["advanced_quantization_parameters"] = arguments.pop("advanced_parameters")
    quantized = nncf.quantize_with_accuracy_control(
        graph,
        calibration_dataset=nncf.Dataset([feed(batch, names) for batch in kept]),
        validation_dataset=nncf.Dataset(
            list(range(len(aside))), lambda number: feed(aside[number], names)
        ),
        validation_fn=similarity,
        max_drop=max_drop,
        subset_size=len(kept),
        **arguments,
    )
    compiled = openvino.Core().compile_model(
        quantized, "CPU", {PRECISION_HINT: "f32", **cpu_threads()}
    )
    drop = 1 - similarity(compiled, range(len(aside)))[0]
    if drop > max_drop:
        raise VerificationError(
            f"Static int8 of {model.file_name} is not possible with max_drop={max_drop}: on "
            f"the texts set aside the mean cosine to it still drops by {drop:.2g}. Allow more, "
            "give more calibration texts, or compress the weights alone with 'int8-weights'."
        )
    return quantized


def _agreement(
    compiled: Any,
    model: Model,
    batch: TokenBatch,
    expected: NDArray[np.float32],
    names: Sequence[str],
) -> float:
    hidden = as_numpy(compiled(feed(batch, names))[0])
    embeddings = run_modules(np, model.source.architecture.modules, hidden, batch)
    return float((unit_length(np, embeddings) * expected).sum(axis=1).mean())
