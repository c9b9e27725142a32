"""An ONNX graph in ONNX Runtime: opening it and running padded batches."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core import (
    Architecture,
    Checkpoint,
    LoadOptions,
    Model,
    Runtime,
    TokenBatch,
)
from core.errors import BackendLoadError, ModelFormatError, OptionError, UnsupportedOperation
from core.toolkit import (
    DENSE,
    GraphHeads,
    HeldFiles,
    MaskedLanguageHead,
    Module,
    OnnxFile,
    abandon_in_forks,
    as_numpy,
    available_cpus,
    check_inputs,
    check_labels,
    check_token_width,
    check_tokens_shape,
    check_vector_width,
    external_files,
    logits_batch_tokens,
    modules_after,
    modules_after_vectors,
    read_onnx_file,
    run_modules,
    run_token_modules,
    scores_of,
)
from onnx_backend.device import CPU, Provider, choose_provider, import_runtime
from onnx_backend.graph import Graph, describe_graph
from onnx_backend.modules import DevicePooler
from onnx_backend.presets import may_overflow
from onnx_backend.quiet import quiet_options
from onnx_backend.rewriting.mapped import graph_over

logger = logging.getLogger("core")

#: Fusions whose operators are slower on a CPU than what they replace; in float32 other work hides
#: it. Without this one, int8 files run 7 to 13 % faster.
_SLOW_IN_INT8 = ("SkipLayerNormFusion",)


class OnnxRuntime(Runtime):
    """Runs an encoder graph, and the modules after it where the graph does not hold them.

    On a CPU there are up to two sessions of the same file: one with a single thread, which any
    number of workers call at once, and one with a thread for every processor, for a batch that
    runs alone. Each is opened when first needed.

    Attributes:
        file: What the ONNX file holds.
        path: The file, on this machine.
        files: The file and its external data, relative to the checkpoint.
        provider: The execution provider in use.
        providers: Names of all that the session runs with, the first choice first.

    Args:
        pool_on_device: Run the modules where the token embeddings are, in a session of their own;
            None does so everywhere but on a CPU.
    """

    def __init__(
        self,
        architecture: Architecture,
        file: OnnxFile,
        path: Path,
        files: tuple[str, ...],
        provider: Provider,
        sessions: Sessions,
        *,
        pool_on_device: bool | None = None,
    ) -> None:
        super().__init__(architecture)
        self.file, self.path, self.files, self.provider = file, path, files, provider
        self._sessions = sessions
        session = sessions.any()
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.graph: Graph = describe_graph(session, files[0], architecture)
        check_labels(architecture, self.graph.labels, files[0])
        check_inputs(architecture, self.graph.inputs, files[0])
        self.equal_lengths = self.equal_lengths or "attention_mask" not in self.graph.inputs
        # Positions that are fed come from the mask, which is not how PyTorch counts from the left.
        self.any_padding_side = "position_ids" not in self.graph.inputs
        self._heads = GraphHeads(
            architecture,
            self.graph.described,
            files[0],
            has_tokens=self.graph.tokens is not None,
        )
        self.vocabulary = file.vocabulary
        check_token_width(architecture, self.graph.token_width, files[0])
        check_vector_width(architecture, self.graph.vector_width, files[0])
        self.device = provider.device
        self.dtype = file.dtype
        self.max_workers = sessions.cpus
        if self.graph.sentence is not None and self.graph.width is not None:
            self._modules_after(self.graph.width)
        if provider.name == CPU and self.dtype == "float16":
            logger.warning(
                "%s computes in float16, which is far slower than float32 on a CPU. It is meant "
                "for a GPU; here load the float32 file, or quantize that to int8.",
                files[0],
            )
        if isinstance(architecture.head, MaskedLanguageHead) and self.graph.sentence is None:
            self.batch_tokens = logits_batch_tokens(architecture.dimension)
        if provider.name == CPU and may_overflow(file):
            logger.warning(
                "%s was quantized for processors that add int8 products in 32 bits (VNNI). This "
                "one adds two of them in 16 bits and cuts off what is larger, so embeddings may "
                "drift: quantize the float32 file again on this machine.",
                files[0],
            )
        self._pooler: Any = None
        if pool_on_device is None:
            pool_on_device = provider.name != CPU
        pools = self.graph.tokens is not None and architecture.kind == "embedding"
        if pool_on_device and pools:
            self._pooler = DevicePooler(architecture.modules, sessions.open_bytes)

    @classmethod
    def open(
        cls, source: Checkpoint, architecture: Architecture, options: LoadOptions
    ) -> OnnxRuntime:
        """Open the file named by `options.file_name`.

        Raises:
            ModelFormatError: Not an ONNX model, truncated, or without its external data.
            OptionError: The device or provider is not available.
        """
        import_runtime()
        kwargs = options.model_kwargs
        provider = choose_provider(
            options.device, kwargs.get("provider"), kwargs.get("provider_options")
        )
        name = options.file_name
        assert name is not None
        path = source.path(name)
        file = read_onnx_file(path, f"{source}: {name}")
        files = (name, *external_files(source, name, file.external))
        if file.external:
            path = source.folder(files) / name
        shared = kwargs.get("share_weights", False)
        _check_shared(shared, kwargs.get("session_options"), file, f"{source}: {name}")
        held = HeldFiles([path, *(source.path(n) for n in files[1:])], str(source))
        source.path(name)  # still what was looked through
        sessions = Sessions(
            held,
            f"{source}: {name}",
            provider,
            kwargs.get("session_options"),
            disabled=_SLOW_IN_INT8 if file.is_quantized and provider.name == CPU else (),
            shared=shared,
            inside=not file.external,
        )
        return cls(architecture, file, path, files, sessions.provider, sessions)

    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        name = self.graph.tokens
        if name is None:
            raise UnsupportedOperation(
                f"{self.files[0]} gives sentence embeddings only (outputs: "
                f"{', '.join(self.graph.outputs)}). Export the model again for token embeddings."
            )
        tokens = self._run(name, batch, workers)
        check_tokens_shape(self.architecture, tokens, batch, self.files[0])
        return as_numpy(tokens)

    def sentence_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        if self._pools(batch):
            pooled = as_numpy(self._run(str(self.graph.sentence), batch, workers))
            return self._after_pooling(pooled, batch)
        if self._pooler is not None:
            return self._pooled_on_device(batch)[0]
        return super().sentence_embeddings(batch, workers=workers)

    def token_vectors(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        if self.graph.vectors is None:
            return super().token_vectors(batch, workers=workers)
        vectors = as_numpy(self._run(self.graph.vectors, batch, workers))
        result: NDArray[np.float32] = run_token_modules(
            np, modules_after_vectors(self.architecture), vectors
        )
        return result

    def _pools(self, batch: TokenBatch) -> bool:
        """Whether the graph's own pooling counts for a batch."""
        # What the graph pooled includes the prompt; where it must not, its tokens are pooled here.
        return self.graph.sentence is not None and not (batch.prompt_tokens and self.graph.tokens)

    def _after_pooling(self, pooled: NDArray[np.float32], batch: TokenBatch) -> NDArray[np.float32]:
        modules = self._modules_after(pooled.shape[-1])
        if not modules:
            return pooled
        result: NDArray[np.float32] = run_modules(
            np, modules, None, batch, sentence_embedding=pooled
        )
        return result

    def outputs(
        self, batch: TokenBatch, names: Sequence[str], *, workers: int = 1
    ) -> dict[str, NDArray[np.float32]]:
        self._heads.check(names)
        outputs = {n: self.graph.outputs[at] for n, at in self._heads.inside.items() if n in names}
        if DENSE in names and self._pools(batch):
            outputs[DENSE] = str(self.graph.sentence)
        others = [name for name in names if name not in outputs]
        if others == [DENSE] and self._pooler is not None:
            pooled, *arrays = self._pooled_on_device(batch, list(outputs.values()))
            given = {DENSE: pooled, **dict(zip(outputs, map(as_numpy, arrays), strict=True))}
            return self._heads.complete(names, given, None, batch)
        further = [self.graph.tokens] if others and self.graph.tokens is not None else []
        arrays = self._run_all([*outputs.values(), *further], batch, workers)
        tokens = as_numpy(arrays.pop()) if further else None
        if tokens is not None:
            check_tokens_shape(self.architecture, tokens, batch, self.files[0])
        given = dict(zip(outputs, map(as_numpy, arrays), strict=True))
        if DENSE in outputs:
            given[DENSE] = self._after_pooling(given[DENSE], batch)
        return self._heads.complete(names, given, tokens, batch)

    def scores(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        assert self.graph.logits is not None
        logits = self._run(self.graph.logits, batch, workers)
        return scores_of(self.architecture, logits, batch, self.files[0])

    def preferred_workers(self, batches: int) -> int:
        if isinstance(self.architecture.head, MaskedLanguageHead):
            # The output layer has the size of a small model and is as fast with all threads: a
            # session for one thread would hold it once more.
            return 1
        return min(self._sessions.preferred_workers, batches)

    def check_file(self) -> None:
        """Raise `ModelError` unless `path` and its external data are what was loaded."""
        self._sessions.held.check_in_place()

    def close(self) -> None:
        self._sessions.close()
        self._pooler = None

    def _modules_after(self, width: int) -> tuple[Module, ...]:
        return modules_after(self.architecture, width, self.files[0])

    def _run(self, output: str, batch: TokenBatch, workers: int) -> Any:
        return self._run_all([output], batch, workers)[0]

    def _run_all(self, outputs: list[str], batch: TokenBatch, workers: int) -> list[Any]:
        results: list[Any] = self._sessions.get(workers).run(outputs, self.graph.feed(batch))
        return results

    def _pooled_on_device(
        self, batch: TokenBatch, further: Sequence[str] = ()
    ) -> list[NDArray[np.float32]]:
        """Only [batch, dimension] leaves the device, and the further outputs that are asked for."""
        session = self._sessions.get(1)
        tokens = self.graph.tokens
        binding = session.io_binding()
        for name, array in self.graph.feed(batch).items():
            binding.bind_cpu_input(name, array)
        kind, _, index = self.device.partition(":")
        device = kind if self.provider.binds_outputs else "cpu"
        binding.bind_output(tokens, "cuda" if device == "tensorrt" else device, int(index or 0))
        for name in further:
            binding.bind_output(name, "cpu")
        session.run_with_iobinding(binding)
        hidden, *others = binding.get_outputs()
        return [self._pooler(hidden, batch), *(value.numpy() for value in others)]


def onnx_file(model: Model, operation: str) -> OnnxRuntime:
    """The runtime of a model whose file can be rewritten.

    Raises:
        UnsupportedOperation: It has no ONNX file (static embeddings).
    """
    runtime = model.runtime
    if not isinstance(runtime, OnnxRuntime):
        raise UnsupportedOperation(
            f"{model!r} has no ONNX file to {operation}: static embeddings are a table, looked up "
            "as they are."
        )
    runtime.check_file()
    return runtime


class Sessions:
    """The sessions of one ONNX file on one provider. Thread-safe.

    Attributes:
        held: The file and its external data.
        provider: As asked for, or the CPU where the GPU nobody insisted on does not work.
        cpus: How many batches may run at once.
        preferred_workers: How many should.

    Args:
        disabled: ONNX Runtime's optimizers to leave out.
        shared: Compute with the weights as they lie in the file, mapped into memory.
        inside: Whether the ONNX file holds them itself.
    """

    def __init__(
        self,
        held: HeldFiles,
        shown: str,
        provider: Provider,
        session_options: Any,
        disabled: Sequence[str] = (),
        shared: bool = False,
        inside: bool = False,
    ) -> None:
        self.held, self._shown = held, shown
        self._given = session_options
        self._disabled = list(disabled)
        self._shared, self._inside = shared, inside
        self._lock = threading.Lock()
        self._open: dict[int, Any] = {}
        self._beside: list[Any] = []
        self._closed = False
        self.provider = provider
        self._threads = available_cpus()
        abandon_in_forks(self, Sessions._abandon)
        self._open[self._key(1)] = self._first_session()
        self.cpus = self._threads if self.provider.name == CPU else 1
        self.preferred_workers = self.cpus
        if session_options is not None and self._key(2) != 1:
            # The caller's own session has all its threads in every batch.
            self.preferred_workers = 1

    def any(self) -> Any:
        """Some session of the file."""
        return next(iter(self._open.values()))

    def get(self, workers: int) -> Any:
        """The session for a batch that runs with `workers - 1` others at once."""
        key = self._key(workers)
        session = self._open.get(key)
        if session is None:
            with self._lock:
                if self._closed:
                    raise UnsupportedOperation(f"{self._shown} is closed. Load it again.")
                session = self._open.get(key)
                if session is None:
                    session = self._open[key] = self._file_session(key)
        return session

    def open_bytes(self, model: bytes) -> Any:
        """A session of another graph beside this one, on the same device."""
        session = self._session(model, 1)
        self._beside.append(session)
        return session

    def close(self) -> None:
        """Forget the sessions; ONNX Runtime frees what no running batch holds."""
        with self._lock:
            self._closed = True
            self._open.clear()
            self._beside.clear()
            self.held.close()

    def _abandon(self) -> list[Any]:
        """In a forked process: their threads stayed behind, so others are opened when needed."""
        abandoned = [*self._open.values(), *self._beside]
        self._open, self._lock = {}, threading.Lock()
        return abandoned

    def _key(self, workers: int) -> int:
        """Threads inside an operator; one session serves all where they do not matter."""
        if self._given is not None:
            threads = _stated_threads(self._given)
            return threads if threads is not None else self._threads
        if self.provider.name != CPU:
            return 1
        return 1 if workers > 1 else self._threads

    def _first_session(self) -> Any:
        asked = self.provider
        try:
            session = self._file_session(self._key(1))
        except BackendLoadError as error:
            if asked.required:
                raise
            session = None
            why = f" ({error})"
        else:
            if asked.name in session.get_providers():
                return session
            why = ""
        wanted = (
            f"{asked.name} did not start on {asked.device}{why}. Check the driver and the CUDA and "
            "cuDNN versions this ONNX Runtime needs: "
            "https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html"
        )
        if asked.required:
            raise BackendLoadError(wanted)
        logger.warning("%s Using the CPU; pass device='cpu' to choose it.", wanted)
        self.provider = Provider(CPU)
        return self._file_session(self._key(1))

    def _file_session(self, threads: int) -> Any:
        """A session of the file as it was when the model was loaded."""
        with self.held.opened() as path:
            if self._shared and self._inside:
                return self._session(graph_over(path), threads, folder=str(path.parent))
            return self._session(str(path), threads)

    def _session(self, model: str | bytes, threads: int, folder: str = "") -> Any:
        onnxruntime = import_runtime()
        options = _session_options(onnxruntime, self._given, threads)
        if self._shared:  # what it packs for its own kernels is a copy, and each process has one
            options.add_session_config_entry("session.disable_prepacking", "1")
        if folder:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", folder
            )
        try:
            return onnxruntime.InferenceSession(
                model,
                options,
                providers=self.provider.arguments,
                enable_fallback=0,
                **({"disabled_optimizers": self._disabled} if self._disabled else {}),
            )
        except Exception as error:  # its exceptions share no base class
            text = str(error).strip()
            if self.provider.name != CPU and _about_provider(text):
                raise BackendLoadError(f"{self.provider.name} failed: {text}") from error
            raise ModelFormatError(
                f"{self._shown} is not a model that ONNX Runtime {onnxruntime.__version__} opens: "
                f"{text[:600]}. Download or export it again, or update onnxruntime."
            ) from error


def _about_provider(text: str) -> bool:
    return any(word in text for word in ("CUDA", "cuda", "TensorRT", "Provider", "provider"))


def _check_shared(shared: Any, session_options: Any, file: OnnxFile, shown: str) -> None:
    """Raise `OptionError` where `share_weights` cannot be had."""
    if not isinstance(shared, bool):
        raise OptionError(f"share_weights must be True or False, not {shared!r}.")
    if not shared:
        return
    if session_options is not None and not isinstance(session_options, Mapping):
        raise OptionError(
            "share_weights is an option of the session: set session.disable_prepacking in your "
            "SessionOptions instead, or give session_options as a mapping."
        )
    if file.is_quantized:
        raise OptionError(
            f"{shown} is quantized, and ONNX Runtime's integer kernels are fast with a copy of "
            "the weights alone: leave out share_weights, or load a file in floating point."
        )


def _session_options(onnxruntime: Any, given: Any, threads: int) -> Any:
    """What the caller gave, on top of ours; a whole SessionOptions object is taken as it is."""
    if isinstance(given, onnxruntime.SessionOptions):
        return given
    options = quiet_options(threads)
    # A memory plan is kept for every shape ever seen, and texts come in any shape.
    options.enable_mem_pattern = False
    if given is None:
        return options
    if not isinstance(given, Mapping):
        raise OptionError(
            "session_options must be an onnxruntime.SessionOptions or a mapping of its "
            f"attributes, not {type(given).__name__}."
        )
    for name, value in given.items():
        if name.startswith("_") or not hasattr(options, name) or callable(getattr(options, name)):
            raise OptionError(
                f"session_options has no attribute {name!r}. Names are those of "
                "onnxruntime.SessionOptions: intra_op_num_threads, graph_optimization_level, ..."
            )
        if name == "graph_optimization_level" and isinstance(value, str | int):
            value = _optimization_level(onnxruntime, value)
        try:
            setattr(options, name, value)
        except (TypeError, ValueError) as error:
            kind = type(getattr(options, name)).__name__
            raise OptionError(
                f"session_options: {name} must be of type {kind}, not {value!r}."
            ) from error
    return options


def _optimization_level(onnxruntime: Any, value: str | int) -> Any:
    levels = onnxruntime.GraphOptimizationLevel
    try:
        return levels(value) if isinstance(value, int) else getattr(levels, value)
    except (AttributeError, ValueError) as error:
        raise OptionError(
            f"graph_optimization_level={value!r} is not one of ORT_DISABLE_ALL, ORT_ENABLE_BASIC, "
            "ORT_ENABLE_EXTENDED, ORT_ENABLE_ALL."
        ) from error


def _stated_threads(given: Any) -> int | None:
    """Threads inside an operator as the caller's options state them; None for every processor."""
    if isinstance(given, Mapping):
        value = given.get("intra_op_num_threads")
    else:
        value = getattr(given, "intra_op_num_threads", None)
    return value if isinstance(value, int) and value > 0 else None
