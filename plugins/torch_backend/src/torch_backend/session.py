"""A transformer in PyTorch: opening its weights and running padded batches."""

from __future__ import annotations

import copy
import logging
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core import Architecture, Checkpoint, LoadOptions, Model, Runtime, TokenBatch
from core.errors import OptionError, UnsupportedOperation
from core.toolkit import (
    HEAD_OUTPUTS,
    SENTENCE_OUTPUTS,
    VECTOR_OUTPUTS,
    MaskedLanguageHead,
    check_tokens_shape,
    logits_batch_tokens,
    processor_flags,
    run_modules,
    run_outputs,
    run_token_modules,
)
from torch_backend.budget import MemoryLimit, gpu_batch_tokens, joined
from torch_backend.compiled import compile_module
from torch_backend.configuration import attend_both_ways, stored_options
from torch_backend.device import choose_device, choose_dtype, choose_packed
from torch_backend.encoders import forward_inputs, vocabulary_size
from torch_backend.heads import check_head, head_scores
from torch_backend.kernels.blind_rows import blind_rows
from torch_backend.kernels.blocked_weights import FEW_ROWS, use_blocked_weights
from torch_backend.kernels.threads import limit_threads, single_threaded
from torch_backend.packed.attention import KERNELS
from torch_backend.packed.encoders import PackedEncoder, packed_encoder
from torch_backend.packed.fusions import can_fuse
from torch_backend.packed.recorded import record_cuda_graph
from torch_backend.packed.runner import PackedRunner, find_fault, probe_batch
from torch_backend.pooled_logits import pooled_logits, pooling_of, splade_weights
from torch_backend.presets import INSTRUCTIONS
from torch_backend.traceable import hidden_state, traceable_module, traced_head, tracing
from torch_backend.transfers import as_array, copy_back, copy_over
from torch_backend.weights import open_transformer

logger = logging.getLogger("core")

# A GPU computes one batch while the next is started; more keep it from waiting for a slow one, or
# for a program that was held up.
_BATCHES_AHEAD = 4
#: Texts tokenized at a time: some tenths of a second of a GPU's work.
_TEXTS_AHEAD = 16_384


class TorchRuntime(Runtime):
    """Runs a `transformers` encoder and the modules after it on one device.

    Attributes:
        module: The transformer, in evaluation mode. Its forward takes `input_names` as keywords,
            int64 [batch, tokens] each, and returns an output whose `last_hidden_state` is
            [batch, tokens, hidden], or whose `logits` are what a head gives. With `traceable`, the
            contract other backends export from.
        input_names: Of `input_ids`, `attention_mask`, `token_type_ids`, those it takes, in the
            order of its forward.
        compile_options: Of `torch.compile`, or None where the module runs as it is.
        attention: Where batches are computed without padding, what computes attention within each
            text: "varlen_attn", "flash_attn" or "sdpa". None where batches are padded.
    """

    survives_fork = False

    def __init__(
        self,
        architecture: Architecture,
        module: torch.nn.Module,
        device: torch.device,
        *,
        files: tuple[str, ...] = (),
        dtype: str | None = None,
        compile_options: Mapping[str, Any] | None = None,
        packed: bool | None = None,
        share_weights: bool = False,
    ) -> None:
        super().__init__(architecture)
        self.files = files
        self._shown = files[0] if files else "the module"
        self.module: torch.nn.Module = module.eval().to(device)
        self.input_names = forward_inputs(module)
        self.compile_options = compile_options
        # Without a mask it cannot tell padding from text.
        self.equal_lengths = self.equal_lengths or "attention_mask" not in self.input_names
        self.vocabulary = vocabulary_size(module)
        self._run: Any = self.module
        if compile_options is not None:
            self._run = compile_module(self.module, self.input_names, device, compile_options)
        self._device = self.tensor_device = device
        self.device = str(device)
        parameter = next((p for p in module.parameters() if p.is_floating_point()), None)
        self.dtype = dtype or str(getattr(parameter, "dtype", torch.float32)).removeprefix("torch.")
        self._modules = tuple(m.convert(self._to_device) for m in architecture.modules)
        if self.pools_logits and (compile_options is not None or pooled_logits(module) is None):
            self.batch_tokens = logits_batch_tokens(architecture.dimension)
        heads = architecture.token_heads
        self._heads = None if heads is None else heads.convert(self._to_device)
        self._limit = MemoryLimit()
        # A batch is a few hundred calls, and a thread that starts one waits at each of them for the
        # interpreter's lock, which others would take: one batch is started after the other.
        self._starting: AbstractContextManager[Any] = nullcontext()
        holds_lengths = _holds_lengths(module)
        if device.type == "cuda" or holds_lengths:
            self._starting = threading.Lock()
        self._wanted = packed
        self._packed = self._packed_runner(packed)
        self.attention = None if self._packed is None else self._packed.attention
        if device.type == "cuda":
            self.batches_ahead, self.texts_ahead = _BATCHES_AHEAD, _TEXTS_AHEAD
            if self.batch_tokens is None and isinstance(parameter, torch.Tensor):
                self.batch_tokens = gpu_batch_tokens(self.module, device, parameter.dtype)
        if device.type == "cpu":
            threads = limit_threads()
            # A compiled module has its number of threads built in.
            one = compile_options is not None or holds_lengths
            self.max_workers = 1 if one else threads
            if compile_options is None and self.dtype == "float32":
                early = pooled_logits(self.module)
                # With a vocabulary, copies take more than all else; and those of a process are its
                # own, where the file's pages are common to all.
                copied_rows = 0 if share_weights else math.inf if early is None else FEW_ROWS
                use_blocked_weights(self.module, copied_rows)
                if early is not None:
                    early.copied_rows = copied_rows

    @classmethod
    def open(
        cls, source: Checkpoint, architecture: Architecture, options: LoadOptions
    ) -> TorchRuntime:
        """Open the weights named by `options.file_name` on the device asked for.

        Without a dtype, a CPU computes the model's own weights in float32 and everything else
        keeps the dtype its file stores.
        """
        device = choose_device(options.device)
        given = dict(options.model_kwargs)
        share_weights = given.pop("share_weights", False)
        if not isinstance(share_weights, bool):
            raise OptionError(f"share_weights must be True or False, not {share_weights!r}.")
        kwargs = {**stored_options(source, architecture, given), **given}
        dtype, packed = choose_dtype(kwargs), choose_packed(kwargs)
        opened = open_transformer(
            source, architecture, options, kwargs, dtype, on_cpu=device.type == "cpu"
        )
        check_head(source, opened.module, architecture)
        attend_both_ways(source, opened.module)
        if opened.dtype == "int8" and device.type != "cpu":
            raise OptionError(
                f"{options.file_name} is int8 for CPUs and cannot run on {device}: pass "
                'device="cpu".'
            )
        runtime = cls(
            architecture,
            opened.module,
            device,
            files=opened.files,
            dtype=opened.dtype,
            compile_options=opened.compile_options,
            packed=packed,
            share_weights=share_weights,
        )
        _warn_of_slow_dtype(runtime.dtype, device, str(options.file_name))
        return runtime

    def converted(self, dtype: torch.dtype) -> TorchRuntime:
        """A runtime of its own with a copy of the weights in another dtype.

        Buffers stay as they are: what positions are turned by is float32 in half precision, too.
        """
        weights = {
            id(weight): torch.nn.Parameter(weight.detach().to(dtype), requires_grad=False)
            for weight in self.module.parameters()
            if weight.is_floating_point()
        }
        module = copy.deepcopy(self.module, weights)
        return TorchRuntime(
            self.architecture, module, self._device, files=self.files, packed=self._wanted
        )

    @property
    def packed(self) -> bool:
        """Whether batches are computed without padding."""
        return self._packed is not None

    def _packed_runner(self, wanted: bool | None) -> PackedRunner | None:
        """What computes batches without padding; None for those that stay padded.

        Args:
            wanted: None where the device decides: a GPU with a kernel for it.
        """
        architecture = self.architecture
        plain = architecture.head is None and architecture.kind == "embedding"
        if wanted is False or not plain or self.compile_options is not None:
            return None
        if self.dtype == "int8":  # whose attention sums in one order, whatever the batch
            return None
        if wanted is None and self._device.type != "cuda":  # no kernel; the encoder copies weights
            return None
        weight = next((p for p in self.module.parameters() if p.is_floating_point()), None)
        fused = weight is not None and can_fuse(self._device, weight.dtype)
        encoder = packed_encoder(self.module, fused=fused)
        if encoder is None or (wanted is None and encoder.attention not in KERNELS):
            return None
        runner = self._runner(encoder)
        if self._device.type == "cpu" and not fused:
            return runner
        fault = self._fault(runner)
        if fault is not None and fused:
            logger.info("%s: no steps are fused, because with them %s.", self._shown, fault)
            unfused = packed_encoder(self.module)
            assert unfused is not None
            runner = self._runner(unfused)
            fault = self._fault(runner)
        if fault is None:
            return runner
        logger.warning("%s: batches stay padded, because %s.", self._shown, fault)
        return None

    def _runner(self, encoder: PackedEncoder) -> PackedRunner:
        return PackedRunner(
            encoder,
            self._modules,
            self._device,
            self._to_device,
            has_types="token_type_ids" in self.input_names,
            record=record_cuda_graph if encoder.attention in KERNELS else None,
        )

    def _fault(self, runner: PackedRunner) -> str | None:
        batch = probe_batch(self.vocabulary, self.architecture.max_seq_length)
        with self._threads(1), torch.inference_mode():
            return find_fault(runner, batch, self._padded)

    def _to_device(self, array: NDArray[np.float32]) -> torch.Tensor:
        tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        return copy_over(tensor, self._device)

    def _opened(self) -> Any:
        run = self._run
        if run is None:  # by another thread
            raise UnsupportedOperation("This model is closed. Load it again.")
        return run

    def _inputs(self, batch: TokenBatch) -> dict[str, torch.Tensor]:
        return {
            name: copy_over(torch.from_numpy(getattr(batch, name)), self._device)
            for name in self.input_names
        }

    def _computed(
        self, batch: TokenBatch, compute: Callable[[TokenBatch], torch.Tensor], workers: int = 1
    ) -> torch.Tensor:
        """A batch's rows, in parts where the device's memory does not hold all of them at once."""
        with self._threads(workers), torch.inference_mode(), self._starting:
            rows = joined(self._limit.run(batch, compute))
        found = self._limit.tokens
        if found is not None:
            self.batch_tokens = min(self.batch_tokens or found, found)
        return rows

    def _forward(self, batch: TokenBatch) -> torch.Tensor:
        self._opened()
        packed = self._packed
        return self._padded(batch) if packed is None else packed.hidden_states(batch)

    def _padded(self, batch: TokenBatch) -> torch.Tensor:
        run = self._opened()
        hidden: torch.Tensor = hidden_state(run(**self._inputs(batch)))
        check_tokens_shape(self.architecture, hidden, batch, self._shown)
        return hidden.float()

    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        return as_array(self._computed(batch, self._forward, workers))

    def sentence_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        return as_array(self._computed(batch, self._embeddings, workers))

    def start_sentence_embeddings(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        with self._threads(1):
            return copy_back(self._computed(batch, self._embeddings))

    def _embeddings(self, batch: TokenBatch) -> torch.Tensor:
        if self.pools_logits:
            return self._word_weights(batch)
        self._opened()
        if self._packed is not None:
            return self._packed.sentence_embeddings(batch)
        pooled: torch.Tensor = run_modules(
            torch, self._modules, self._padded(batch), batch, self._to_device
        )
        return pooled

    def token_vectors(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        def compute(part: TokenBatch) -> torch.Tensor:
            vectors: torch.Tensor = run_token_modules(torch, self._modules, self._padded(part))
            return vectors

        return as_array(self._computed(batch, compute, workers))

    @property
    def pools_logits(self) -> bool:
        """Whether the module's head gives logits of a vocabulary, which are pooled."""
        return isinstance(self.architecture.head, MaskedLanguageHead)

    def _word_weights(self, batch: TokenBatch) -> torch.Tensor:
        run, pooling = self._opened(), pooling_of(self.architecture)
        early = pooled_logits(self.module) if run is self.module else None
        weights: torch.Tensor = splade_weights(run, self._inputs(batch), pooling, early)
        return weights.float()

    def outputs(
        self, batch: TokenBatch, names: Sequence[str], *, workers: int = 1
    ) -> dict[str, NDArray[np.float32]]:
        def compute(part: TokenBatch) -> dict[str, torch.Tensor]:
            hidden = self._forward(part)
            return run_outputs(
                torch, self._modules, self._heads, names, hidden, part, self._to_device
            )

        with self._threads(workers), torch.inference_mode(), self._starting:
            parts = self._limit.run(batch, compute)
            return {name: as_array(joined([p[name] for p in parts])) for name in parts[0]}

    def scores(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        def compute(part: TokenBatch) -> torch.Tensor:
            scores: torch.Tensor = head_scores(self._opened(), self.module, self._inputs(part))
            return scores.float()

        return as_array(self._computed(batch, compute, workers))

    @contextmanager
    def traceable(
        self, source: Checkpoint, wanted: str
    ) -> Iterator[tuple[torch.nn.Module, tuple[torch.Tensor, ...]]]:
        """The transformer in a form an exporter can trace into `wanted`, and example inputs.

        The module takes int64 [batch, tokens] tensors in the order of `input_names` and returns
        the last hidden state, or what its head gives: `output_name` and `output_axes` tell which.
        Where there are `further_outputs`, it returns a tuple of that and of those.
        While the context lasts, masks are built so that a tracer sees them.

        Raises:
            UnsupportedOperation: The tracer failed; the message names `source`.
        """
        with tracing(source, wanted):
            longest = self.architecture.max_seq_length
            with (
                traced_head(self.module, self.architecture),
                blind_rows(self.module, self.architecture),
            ):
                yield traceable_module(
                    self.module,
                    self.input_names,
                    longest,
                    self.architecture,
                    vectors=self._modules if self._gives_vectors else (),
                    token_heads=self.architecture.token_heads,
                )

    @property
    def output_name(self) -> str:
        """What `traceable` returns, as graphs call it."""
        if self.pools_logits:
            return SENTENCE_OUTPUTS[0]
        return "last_hidden_state" if self.architecture.head is None else "logits"

    @property
    def output_axes(self) -> tuple[str, ...]:
        """The axes of that output whose sizes differ from batch to batch, from the first on."""
        return ("batch", "tokens") if self.architecture.head is None else ("batch",)

    @property
    def further_outputs(self) -> dict[str, tuple[str, ...]]:
        """What `traceable` returns besides, as graphs call it, with the axes that differ."""
        if self._gives_vectors:
            # sentence-transformers reads the first output of such a graph, and projects by itself.
            return {VECTOR_OUTPUTS[0]: ("batch", "tokens")}
        heads = self.architecture.token_heads
        names = () if heads is None else heads.names
        return {HEAD_OUTPUTS[name]: ("batch", "tokens") for name in names}

    @property
    def _gives_vectors(self) -> bool:
        return self.architecture.kind == "multi_vector" and bool(self._modules)

    def preferred_workers(self, batches: int) -> int:
        # A few batches would leave most threads idle: better one after the other with all.
        return min(self.max_workers, batches) if 2 * batches >= self.max_workers else 1

    def _threads(self, workers: int) -> AbstractContextManager[None]:
        if self._device.type == "cuda":
            # Pinned memory belongs to the current device: without this, every process of a pool
            # would open the first GPU as well.
            return torch.cuda.device(self._device)
        alone = workers > 1 and self._device.type == "cpu"
        return single_threaded() if alone else nullcontext()

    def close(self) -> None:
        # First: a batch that finds the rest missing finds this, too, and says so.
        self._run = self._packed = None
        del self.module
        self._modules, self._heads = (), None


def _warn_of_slow_dtype(dtype: str, device: torch.device, file_name: str) -> None:
    """Say that a CPU does not multiply a half precision, if it does not."""
    wanted = INSTRUCTIONS.get(dtype)
    if device.type != "cpu" or wanted is None:
        return
    known = processor_flags()
    if known and not known.intersection(wanted):
        logger.warning(
            "%s computes in %s, which this processor does not multiply: that is slower than "
            "float32, with AVX2 alone six times. Load it with the dtype 'float32', or use it on a "
            "GPU or a CPU with one of %s.",
            file_name,
            dtype,
            ", ".join(wanted),
        )


def _holds_lengths(module: torch.nn.Module) -> bool:
    """Whether its rotary positions keep in the module how long the batch at hand is."""
    kinds = [str(getattr(part, "rope_type", "")) for part in module.modules()]
    return any("longrope" in kind or "dynamic" in kind for kind in kinds)


def module_of(model: Model, operation: str) -> TorchRuntime:
    """The runtime of a model with a transformer to optimize or quantize.

    Raises:
        UnsupportedOperation: It has none (static embeddings).
    """
    if not isinstance(model.runtime, TorchRuntime):
        raise UnsupportedOperation(
            f"{model!r} has no transformer to {operation}: static embeddings are a table, looked "
            "up and not computed, which every backend loads as it is."
        )
    return model.runtime
