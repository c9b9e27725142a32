"""An encoder in OpenVINO: compiling its graph and running padded batches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core import Architecture, Checkpoint, LoadOptions, Runtime, TokenBatch
from core.errors import ModelFormatError, OptionError, UnsupportedOperation
from core.toolkit import (
    DENSE,
    SPARSE,
    GraphHeads,
    MaskedLanguageHead,
    Scoring,
    abandon_in_forks,
    as_numpy,
    available_cpus,
    check_inputs,
    check_labels,
    check_token_width,
    check_tokens_shape,
    check_vector_width,
    logits_batch_tokens,
    modules_after,
    modules_after_vectors,
    run_modules,
    scores_of,
)
from openvino_backend.device import (
    PRECISION_HINT,
    SCHEDULING,
    check_properties,
    choose_device,
    cpu_threads,
    is_virtual,
    read_ov_config,
    with_precision,
)
from openvino_backend.files import ReadGraph, read_graph, reason
from openvino_backend.graph import (
    described,
    input_names,
    joined,
    logits_output,
    only,
    outputs,
    quantizes_activations,
    rank,
    vector_outputs,
    vocabulary,
    width,
)
from openvino_backend.imports import openvino
from openvino_backend.kernels.cache import compile_bounded
from openvino_backend.kernels.shapes import Shape
from openvino_backend.modules import append_modules, append_token_modules
from openvino_backend.processor import Needs, file_settings

DTYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


class Graphs(NamedTuple):
    """One file's graph, and its parts that are compiled; None where the file lacks that output."""

    whole: openvino.Model
    tokens: openvino.Model | None
    sentences: openvino.Model | None
    scores: openvino.Model | None = None
    vectors: openvino.Model | None = None

    @property
    def first(self) -> str:
        """The part that is compiled when the model is opened."""
        if self.scores is not None:
            return "scores"
        if self.vectors is not None:
            return "vectors"
        return "tokens" if self.sentences is None else "sentences"


class OpenVINORuntime(Runtime):
    """Runs a graph and the modules after it on one device.

    The graph is compiled for one batch at a time with all threads (latency), and, once several
    batches are in flight, again for one thread per batch (throughput). Pooling and what follows is
    compiled into the graph where it can be; asking for token embeddings compiles it without.

    Attributes:
        settings: OpenVINO properties it is compiled with: the caller's, and the precision.
    """

    survives_fork = False

    def __init__(
        self,
        architecture: Architecture,
        read: ReadGraph,
        runtime: openvino.Core,
        device: str,
        config: Mapping[str, Any],
    ) -> None:
        super().__init__(architecture)
        graph, self.files, self._held = read
        file_name = self.file_name = self.files[0]
        needs = Needs.of(graph)
        self._config = dict(config)
        asked = file_settings(needs, device, config, file_name)
        self.settings = with_precision(runtime, device, {**asked, **config})
        self.input_names = input_names(graph, file_name)
        check_inputs(architecture, self.input_names, file_name)
        self.equal_lengths = self.equal_lengths or "attention_mask" not in self.input_names
        # Positions that are fed come from the mask, which is not how PyTorch counts from the left.
        self.any_padding_side = "position_ids" not in self.input_names
        self.vocabulary = vocabulary(graph)
        self._runtime = runtime
        self._target = device
        graphs = _graphs(graph, architecture, file_name)
        self._graphs: Graphs | None = graphs
        self._pools = graphs.tokens is None and graphs.sentences is not None
        if isinstance(architecture.head, MaskedLanguageHead) and not self._pools:
            self.batch_tokens = logits_batch_tokens(architecture.dimension)
        self._heads = GraphHeads(
            architecture, described(graph), file_name, has_tokens=graphs.tokens is not None
        )
        if self._pools and graphs.sentences is not None:
            modules_after(architecture, width(graphs.sentences.outputs[0]), file_name)
        self._scheduled = any(name in self.settings for name in SCHEDULING)
        self._shape = _fixed_shape(graph, architecture, exact=self.equal_lengths)
        if self.equal_lengths and self._shape.width is not None:
            raise ModelFormatError(
                f"{file_name} takes exactly {self._shape.width} tokens, and padding would change "
                "the embeddings of this architecture. Export it again with a dynamic length."
            )
        self._compiled: dict[tuple[str, str], Compiled] = {}
        self._lock = threading.Lock()
        abandon_in_forks(self, OpenVINORuntime._abandon)
        first = self._executable(graphs.first, workers=1)
        self.device = first.device
        self.dtype = "int8" if needs.int8 or quantizes_activations(graph) else first.dtype
        self.max_workers = first.streams if self._scheduled else self._streams()

    @classmethod
    def open(
        cls, source: Checkpoint, architecture: Architecture, options: LoadOptions
    ) -> OpenVINORuntime:
        """Open the graph named by `options.file_name` on the device asked for."""
        assert options.file_name is not None
        config = read_ov_config(options.model_kwargs.get("ov_config"))
        runtime = openvino.Core()
        device = choose_device(runtime, options.device)
        if is_virtual(device):  # which ignores names it does not know
            check_properties(runtime, device, config)
        read = read_graph(runtime, source, options.file_name)
        return cls(architecture, read, runtime, device, config)

    @property
    def graph(self) -> openvino.Model:
        """As it was read from the file."""
        self._held.check()
        return self._opened().whole

    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        if self._opened().tokens is None:
            raise UnsupportedOperation(
                f"{self.file_name} gives sentence embeddings only. Load a file that gives token "
                "embeddings with file_name, or export the model again."
            )
        tokens = self._run("tokens", batch, workers)
        check_tokens_shape(self.architecture, tokens, batch, self.file_name)
        return tokens

    def sentence_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        if self._opened().sentences is not None:
            return self._after_pooling(self._run("sentences", batch, workers), batch)
        hidden = self.token_embeddings(batch, workers=workers)
        result: NDArray[np.float32] = run_modules(np, self.architecture.modules, hidden, batch)
        return result

    def token_vectors(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        return self._run("vectors", batch, workers)

    def _after_pooling(self, pooled: NDArray[np.float32], batch: TokenBatch) -> NDArray[np.float32]:
        if not self._pools:
            return pooled
        modules = modules_after(self.architecture, pooled.shape[-1], self.file_name)
        after: NDArray[np.float32] = run_modules(
            np, modules, None, batch, sentence_embedding=pooled
        )
        return after

    def outputs(
        self, batch: TokenBatch, names: Sequence[str], *, workers: int = 1
    ) -> dict[str, NDArray[np.float32]]:
        self._heads.check(names)
        parts = [name for name in names if name in self._heads.inside]
        if DENSE in names and self._opened().sentences is not None:
            parts.append("sentences")
        if len(parts) < len(names):
            parts.append("tokens")
        arrays = dict(zip(parts, self._run_all(parts, batch, workers), strict=True))
        tokens = arrays.pop("tokens", None)
        if tokens is not None:
            check_tokens_shape(self.architecture, tokens, batch, self.file_name)
        if "sentences" in arrays:
            arrays[DENSE] = self._after_pooling(arrays.pop("sentences"), batch)
        return self._heads.complete(names, arrays, tokens, batch)

    def scores(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        logits = self._run("scores", batch, workers)
        return scores_of(self.architecture, logits, batch, self.file_name)

    def preferred_workers(self, batches: int) -> int:
        if isinstance(self.architecture.head, MaskedLanguageHead) and not self._scheduled:
            # The output layer has the size of a small model and is as fast with all threads:
            # compiled for one thread as well, it would be held once more.
            return 1
        # A few batches leave most streams of one thread idle: better one after the other with all.
        if self._scheduled or 2 * batches >= self.max_workers:
            return min(self.max_workers, batches)
        return 1

    def close(self) -> None:
        with self._lock:
            self._compiled.clear()
            self._graphs = None
            self._held.close()

    def _abandon(self) -> list[Any]:
        """In a forked process, where the compiled graphs run as long as no batch has run before."""
        self._lock = threading.Lock()
        compiled = list(self._compiled.values())
        return [self._runtime, *compiled]

    def _opened(self) -> Graphs:
        """The graphs; another thread may have closed the model."""
        graphs = self._graphs
        if graphs is None:
            raise UnsupportedOperation(f"{self.file_name} is closed. Load it again.")
        return graphs

    def _run(self, kind: str, batch: TokenBatch, workers: int) -> NDArray[np.float32]:
        return self._run_all([kind], batch, workers)[0]

    def _run_all(
        self, kinds: Sequence[str], batch: TokenBatch, workers: int
    ) -> list[NDArray[np.float32]]:
        """What one graph gives for these: fields of `Graphs`, or heads."""
        width, rows = self._shape.width, self._shape.rows
        if width is not None and batch.width > width:
            raise OptionError(
                f"The graph takes {width} tokens and a text has {batch.width}. Set "
                f"model.max_seq_length = {width}."
            )
        parts = [batch] if rows is None else list(_cut(batch, rows))
        results = []
        for part in parts:
            padded = self._shape.padded(part)
            inputs = {name: getattr(padded, name) for name in self.input_names}
            executable = self._executable("+".join(kinds), workers=workers)
            found = [array[: part.rows] for array in executable.infer(inputs)]
            for position, kind in enumerate(kinds):
                if found[position].ndim == 3 or kind == SPARSE:  # an axis is the padded tokens
                    found[position] = found[position][:, : batch.width]
            results.append(found)
        if len(results) == 1:
            return results[0]
        return [np.concatenate(arrays) for arrays in zip(*results, strict=True)]

    def _executable(self, kind: str, *, workers: int) -> Compiled:
        """The graph compiled for so many workers."""
        mode = "throughput" if workers > 1 and not self._scheduled else "latency"
        found = self._compiled.get((kind, mode))
        if found is not None:
            return found
        with self._lock:
            if (kind, mode) not in self._compiled:
                self._compiled[kind, mode] = self._compile(kind, mode)
            return self._compiled[kind, mode]

    def _compile(self, kind: str, mode: str) -> Compiled:
        settings = {**self._schedule(mode), **self.settings}
        graphs = self._opened()
        self._held.check()  # the weights are mapped: what is written over them is compiled
        graph = self._part(graphs, kind.split("+"))
        try:
            compiled = compile_bounded(self._runtime, graph, self._target, settings)
        except (RuntimeError, TypeError) as error:
            blamed = {n: value for n, value in self._config.items() if n in str(error)}
            check_properties(self._runtime, self._target, blamed)
            given = ", ".join(f"{name}={value}" for name, value in self._config.items())
            raise OptionError(
                f"OpenVINO cannot compile {self.file_name} for {self._target}"
                f"{f' with {given}' if given else ''}: {reason(error).rstrip('.')}."
                f"{' Check ov_config.' if given else ''}"
            ) from error
        return Compiled(compiled, graphs.whole)

    def _part(self, graphs: Graphs, kinds: Sequence[str]) -> openvino.Model:
        """The graph that gives these."""
        heads = self._heads.inside
        if len(kinds) == 1 and kinds[0] not in heads:
            return getattr(graphs, kinds[0])
        outputs = [
            graphs.whole.outputs[heads[kind]] if kind in heads else getattr(graphs, kind).outputs[0]
            for kind in kinds
        ]
        return joined(graphs.whole, outputs)

    def _schedule(self, mode: str) -> dict[str, Any]:
        """How a device spreads the work, unless the caller says it."""
        if self._scheduled:
            return {}
        if self._target == "CPU":
            return {"NUM_STREAMS": 1 if mode == "latency" else self._streams(), **cpu_threads()}
        return {"PERFORMANCE_HINT": mode.upper()}

    def _streams(self) -> int:
        # Other devices are asked to run a handful: what one stream of a GPU leaves free.
        return available_cpus() if self._target == "CPU" else 4


class Compiled:
    """A compiled graph that any number of threads may call."""

    def __init__(self, compiled: openvino.CompiledModel, graph: openvino.Model) -> None:
        self._compiled = compiled
        self._outputs = len(compiled.outputs)
        self._idle: deque[openvino.InferRequest] = deque()
        self._graph = graph  # its weights are mapped, and must stay so
        self._types = {
            name: port.get_element_type().to_dtype()
            for port in compiled.inputs
            for name in port.get_names()
        }

    def infer(self, inputs: Mapping[str, NDArray[np.int64]]) -> list[NDArray[np.float32]]:
        """Run one batch; every call has a request of its own."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        arrays = {
            name: np.ascontiguousarray(array, dtype=self._types[name])
            for name, array in inputs.items()
        }
        result = request.infer(arrays, share_inputs=True, share_outputs=True)
        # The request's memory is used again by the next call.
        outputs = [as_numpy(np.array(result[i], copy=True)) for i in range(self._outputs)]
        self._idle.append(request)
        return outputs

    @property
    def device(self) -> str:
        """What OpenVINO says it computes on."""
        return ",".join(self._devices)

    @property
    def dtype(self) -> str:
        """What OpenVINO says it computes in."""
        own = self._property(PRECISION_HINT)
        if own is not None:
            kinds = [own]
        else:  # a virtual device, which has it from each of those it passes work on to
            properties = self._property("DEVICE_PROPERTIES") or {}
            kinds = [properties.get(device, {}).get(PRECISION_HINT) for device in self._devices]
        # "dynamic" leaves it to the graph, whose own arithmetic is float32.
        names = [DTYPES.get(kind.get_type_name() if kind else "", "float32") for kind in kinds]
        return ",".join(dict.fromkeys(names))

    @property
    def _devices(self) -> list[str]:
        # In parentheses while AUTO computes there until another device is ready.
        return [d.strip("()") for d in self._property("EXECUTION_DEVICES") or ["CPU"]]

    @property
    def streams(self) -> int:
        """How many batches it runs at once."""
        return int(self._property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") or 1)

    def _property(self, name: str) -> Any:
        try:
            return self._compiled.get_property(name)
        except RuntimeError:  # virtual devices do not know every property
            return None


def _graphs(graph: openvino.Model, architecture: Architecture, file_name: str) -> Graphs:
    """The parts that give token embeddings and finished sentence embeddings.

    Raises:
        ModelFormatError: The file gives neither.
    """
    if isinstance(architecture.head, Scoring):
        logits = logits_output(graph, file_name)
        check_labels(architecture, width(logits) if rank(logits) == 2 else None, file_name)
        return Graphs(graph, None, None, only(graph, logits))
    if architecture.kind == "multi_vector":
        return _vector_graphs(graph, architecture, file_name)
    tokens, sentences = outputs(graph)
    if tokens is None and sentences is None:
        names = ", ".join(sorted(n for port in graph.outputs for n in port.get_names()))
        raise ModelFormatError(
            f"{file_name} has neither token embeddings [batch, tokens, hidden] nor an output named "
            f"sentence_embedding; its outputs are {names or 'nameless'}. Export the model as a "
            "feature extractor: core.export(..., backend='openvino')."
        )
    if tokens is None:
        return Graphs(graph, None, only(graph, sentences))
    check_token_width(architecture, width(tokens), file_name)
    token_graph = only(graph, tokens)
    return Graphs(graph, token_graph, append_modules(token_graph, architecture.modules))


def _vector_graphs(graph: openvino.Model, architecture: Architecture, file_name: str) -> Graphs:
    """The parts that give token embeddings and a multi-vector model's finished vectors."""
    tokens, vectors = vector_outputs(graph, architecture)
    if tokens is None and vectors is None:
        names = ", ".join(sorted(n for port in graph.outputs for n in port.get_names()))
        raise ModelFormatError(
            f"{file_name} has neither a vector for each token [batch, tokens, dimension] nor token "
            f"embeddings [batch, tokens, hidden]; its outputs are {names or 'nameless'}. Export "
            "the model again with core."
        )
    token_graph = None
    if tokens is not None:
        check_token_width(architecture, width(tokens), file_name)
        token_graph = only(graph, tokens)
    if vectors is not None:
        check_vector_width(architecture, width(vectors), file_name)
        after = modules_after_vectors(architecture)
        finished = append_token_modules(only(graph, vectors), after)
    else:
        assert token_graph is not None
        finished = append_token_modules(token_graph, architecture.modules)
    return Graphs(graph, token_graph, None, vectors=finished)


def _fixed_shape(graph: openvino.Model, architecture: Architecture, *, exact: bool) -> Shape:
    rows, width = graph.inputs[0].get_partial_shape()
    padding = architecture.config.get("pad_token_id")
    # Language models with a classification head look for the last token that is no padding.
    fill = padding if architecture.head is not None and isinstance(padding, int) else None
    return Shape(
        rows.get_length() if rows.is_static else None,
        width.get_length() if width.is_static else None,
        exact,
        fill if fill is not None and fill >= 0 else None,
    )


def _cut(batch: TokenBatch, rows: int) -> list[TokenBatch]:
    return [
        TokenBatch(
            batch.input_ids[i : i + rows],
            batch.attention_mask[i : i + rows],
            batch.token_type_ids[i : i + rows],
            batch.prompt_tokens,
            None if batch.expansion_mask is None else batch.expansion_mask[i : i + rows],
        )
        for i in range(0, batch.rows, rows)
    ]
