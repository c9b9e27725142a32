"""A transformer in PyTorch: opening its weights and running padded batches."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core import Architecture, Checkpoint, LoadOptions, Runtime, TokenBatch
from core.errors import OptionError, UnsupportedOperation
from core.toolkit import (
    HEAD_OUTPUTS,
    SENTENCE_OUTPUTS,
    VECTOR_OUTPUTS,
    MaskedLanguageHead,
    check_tokens_shape,
    logits_batch_tokens,
    run_modules,
    run_outputs,
    run_token_modules,
)
from torch_backend.configuration import stored_options
from torch_backend.device import choose_device, choose_dtype
from torch_backend.encoders import check_encoder
from torch_backend.heads import check_head, head_scores
from torch_backend.kernels.blocked_weights import use_blocked_weights
from torch_backend.kernels.threads import limit_threads, single_threaded
from torch_backend.pooled_logits import pooled_logits, pooling_of, splade_weights
from torch_backend.traceable import hidden_state, traceable_module, traced_head, tracing
from torch_backend.weights import open_transformer


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
    ) -> None:
        super().__init__(architecture)
        self.files = files
        self._shown = files[0] if files else "the module"
        self.module: torch.nn.Module = module.eval().to(device)
        self.input_names = forward_inputs(module)
        self.compile_options = compile_options
        # Without a mask it cannot tell padding from text.
        self.equal_lengths = self.equal_lengths or "attention_mask" not in self.input_names
        self.vocabulary = _vocabulary(module)
        self._run: Any = self.module
        if compile_options is not None:
            self._run = _compiled(self.module, self.input_names, device, compile_options)
        self._device = self.tensor_device = device
        self.device = str(device)
        parameter = next((p for p in module.parameters() if p.is_floating_point()), None)
        self.dtype = dtype or str(getattr(parameter, "dtype", torch.float32)).removeprefix("torch.")
        self._modules = tuple(m.convert(self._to_device) for m in architecture.modules)
        if self.pools_logits and (compile_options is not None or pooled_logits(module) is None):
            self.batch_tokens = logits_batch_tokens(architecture.dimension)
        heads = architecture.token_heads
        self._heads = None if heads is None else heads.convert(self._to_device)
        if device.type == "cpu":
            threads = limit_threads()
            # A compiled module has its number of threads built in.
            self.max_workers = threads if compile_options is None else 1
            if compile_options is None and self.dtype == "float32":
                use_blocked_weights(self.module)

    @classmethod
    def open(
        cls, source: Checkpoint, architecture: Architecture, options: LoadOptions
    ) -> TorchRuntime:
        """Open the weights named by `options.file_name` on the device asked for.

        Without a dtype, a CPU computes the model's own weights in float32 and everything else
        keeps the dtype its file stores.
        """
        device = choose_device(options.device)
        given = options.model_kwargs
        kwargs = {**stored_options(source, architecture, given), **given}
        dtype = choose_dtype(kwargs)
        opened = open_transformer(
            source, architecture, options, kwargs, dtype, on_cpu=device.type == "cpu"
        )
        if architecture.head is None:
            check_encoder(source, opened.module)
        check_head(source, opened.module, architecture)
        if opened.dtype == "int8" and device.type != "cpu":
            raise OptionError(
                f"{options.file_name} is int8 for CPUs and cannot run on {device}: pass "
                'device="cpu".'
            )
        return cls(
            architecture,
            opened.module,
            device,
            files=opened.files,
            dtype=opened.dtype,
            compile_options=opened.compile_options,
        )

    def _to_device(self, array: NDArray[np.float32]) -> torch.Tensor:
        tensor = torch.from_numpy(np.require(array, requirements=["C", "W"]))
        return tensor if self._device.type == "cpu" else tensor.to(self._device)

    def _opened(self) -> Any:
        run = self._run
        if run is None:  # by another thread
            raise UnsupportedOperation("This model is closed. Load it again.")
        return run

    def _inputs(self, batch: TokenBatch) -> dict[str, torch.Tensor]:
        return {
            name: torch.from_numpy(getattr(batch, name)).to(self._device, non_blocking=True)
            for name in self.input_names
        }

    def _forward(self, batch: TokenBatch) -> torch.Tensor:
        run = self._opened()
        hidden: torch.Tensor = hidden_state(run(**self._inputs(batch)))
        check_tokens_shape(self.architecture, hidden, batch, self._shown)
        return hidden.float()

    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        with self._threads(workers), torch.inference_mode():
            result: NDArray[np.float32] = self._forward(batch).cpu().numpy()
        return result

    def sentence_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        if self.pools_logits:
            return self._word_weights(batch, workers)
        with self._threads(workers), torch.inference_mode():
            pooled: torch.Tensor = run_modules(
                torch, self._modules, self._forward(batch), batch, self._to_device
            )
            result: NDArray[np.float32] = pooled.cpu().numpy()
        return result

    @property
    def pools_logits(self) -> bool:
        """Whether the module's head gives logits of a vocabulary, which are pooled."""
        return isinstance(self.architecture.head, MaskedLanguageHead)

    def _word_weights(self, batch: TokenBatch, workers: int) -> NDArray[np.float32]:
        run, pooling = self._opened(), pooling_of(self.architecture)
        with self._threads(workers), torch.inference_mode():
            early = pooled_logits(self.module) if run is self.module else None
            weights = splade_weights(run, self._inputs(batch), pooling, early)
            result: NDArray[np.float32] = weights.float().cpu().numpy()
        return result

    def token_vectors(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        with self._threads(workers), torch.inference_mode():
            vectors = run_token_modules(torch, self._modules, self._forward(batch))
            result: NDArray[np.float32] = vectors.cpu().numpy()
        return result

    def outputs(
        self, batch: TokenBatch, names: Sequence[str], *, workers: int = 1
    ) -> dict[str, NDArray[np.float32]]:
        with self._threads(workers), torch.inference_mode():
            hidden = self._forward(batch)
            computed = run_outputs(
                torch, self._modules, self._heads, names, hidden, batch, self._to_device
            )
            return {name: value.cpu().numpy() for name, value in computed.items()}

    def scores(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        run = self._opened()
        with self._threads(workers), torch.inference_mode():
            scores: torch.Tensor = head_scores(run, self.module, self._inputs(batch))
            result: NDArray[np.float32] = scores.float().cpu().numpy()
        return result

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
            with traced_head(self.module, self.architecture):
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
        alone = workers > 1 and self._device.type == "cpu"
        return single_threaded() if alone else nullcontext()

    def close(self) -> None:
        # First: a batch that finds the rest missing finds this, too, and says so.
        self._run = None
        del self.module
        self._modules, self._heads = (), None


def _compiled(
    module: torch.nn.Module,
    input_names: Sequence[str],
    device: torch.device,
    options: Mapping[str, Any],
) -> Any:
    """`torch.compile`, tried at once: a missing compiler shows here and not in a later batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own deprecations while it traces
        compiled = torch.compile(module, **options)
        sample = torch.ones((2, 8), dtype=torch.long, device=device)
        try:
            with torch.inference_mode():
                compiled(**dict.fromkeys(input_names, sample))
        except Exception as error:
            reason = str(error).strip().split("\n")[0][:300]
            raise UnsupportedOperation(
                f"torch.compile cannot compile this model here ({type(error).__name__}: {reason}). "
                "On a CPU it needs a C++ compiler (`apt-get install g++`). Load the weights "
                "themselves to run without it."
            ) from error
    return compiled


def forward_inputs(module: torch.nn.Module) -> tuple[str, ...]:
    """Which token inputs a module must be given, in the order of its forward."""
    usual = ("input_ids", "attention_mask")
    known = (*usual, "token_type_ids") if _has_token_types(module) else usual
    parameters = inspect.signature(module.forward).parameters
    return tuple(name for name in parameters if name in known) or usual


def _vocabulary(module: torch.nn.Module) -> int | None:
    """Rows of the table of token embeddings; None where the configuration has no vocabulary."""
    stated = getattr(getattr(module, "config", None), "vocab_size", None)
    try:
        table: Any = module.get_input_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    weight = getattr(table, "weight", None)
    if not isinstance(stated, int) or not isinstance(weight, torch.Tensor) or weight.ndim != 2:
        return None
    return max(stated, int(weight.shape[0]))


def _has_token_types(module: torch.nn.Module) -> bool:
    """Whether token type 0 is a token type of its own.

    GPT-2 and its relatives take `token_type_ids` too, but add the embeddings of the words with
    those numbers.
    """
    config = getattr(module, "config", None)
    if config is None or config.model_type == "xlnet":
        return True
    return bool(getattr(config, "type_vocab_size", 0))
