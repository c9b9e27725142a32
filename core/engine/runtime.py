"""What a backend's `load` puts into a model: it runs one padded batch of token ids."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.architecture.batch import TokenBatch
from core.architecture.limits import follows_longest, mixes_padding
from core.architecture.modules import run_modules, run_token_modules
from core.architecture.token_heads import run_outputs
from core.errors import UnsupportedOperation

if TYPE_CHECKING:
    from core.architecture.architecture import Architecture
    from core.checkpoint.checkpoint import Checkpoint
    from core.options import LoadOptions


class Runtime(ABC):
    """Runs padded batches; everything around them is shared.

    A runtime must be callable from several threads at once if it says `max_workers > 1`, and must
    report what it really uses in `device` and `dtype`.
    """

    #: The device computing, as the backend names it: "cpu", "cuda:0", "GPU.0".
    device: str = "cpu"
    #: What the transformer computes in: "float32", "float16", "bfloat16", "int8".
    dtype: str = "float32"
    #: Files of the checkpoint the weights were read from, the one named by `file_name` first.
    files: tuple[str, ...] = ()
    #: Whether a process forked after a batch was run can run batches too.
    survives_fork: bool = True
    #: How many batches may run at once.
    max_workers: int = 1
    #: Tokens per batch the runtime runs best; None leaves it to the engine.
    batch_tokens: int | None = None

    #: How many batches may be started before the embeddings of the first are asked for: see
    #: `start_sentence_embeddings`. 0 for a runtime that computes while it is called.
    batches_ahead: int = 0
    #: Texts tokenized at a time, while those before them are computed; None tokenizes all first,
    #: which is best where both would share the processor.
    texts_ahead: int | None = None

    #: The `torch.device` tensors of the embeddings belong on; None leaves them on the CPU.
    tensor_device: Any = None
    #: Whether batches may be padded on the side the tokenizer does not use, positions counted from
    #: the padding's start as in PyTorch. Only verification does that; False leaves it out.
    any_padding_side: bool = True
    #: Whether padding would change the embeddings of the texts beside it; then only texts of equal
    #: length share a batch. The architecture decides; a runtime with reasons of its own sets it.
    equal_lengths: bool = False
    #: How many token ids there are embeddings for; None leaves it to config.json.
    vocabulary: int | None = None

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture
        config = architecture.config
        self.equal_lengths = mixes_padding(config) or follows_longest(config)
        #: The process it was opened in.
        self.process = os.getpid()

    @abstractmethod
    def token_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        """The transformer's last hidden state, float32 [batch, tokens, hidden]."""

    def sentence_embeddings(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        """The whole module chain, float32 [batch, dimension].

        `workers` says how many batches are in flight: with 1, all threads belong to this one.
        Override it to pool where the token embeddings are.
        """
        hidden = self.token_embeddings(batch, workers=workers)
        result: NDArray[np.float32] = run_modules(np, self.architecture.modules, hidden, batch)
        return result

    def outputs(
        self, batch: TokenBatch, names: Sequence[str], *, workers: int = 1
    ) -> dict[str, NDArray[np.float32]]:
        """Several kinds of embeddings of one pass, of those in `architecture.outputs`.

        Override it where a graph holds the heads, or to compute them where the token embeddings
        are.

        Returns:
            float32 by name: "dense" [batch, dimension] as `sentence_embeddings`, "sparse" [batch,
            tokens] the weight of each token, "multi_vector" [batch, tokens, dimension] the vector
            of each; what stands at padding means nothing.
        """
        hidden = self.token_embeddings(batch, workers=workers)
        modules, heads = self.architecture.modules, self.architecture.token_heads
        return run_outputs(np, modules, heads, names, hidden, batch)

    def start_sentence_embeddings(self, batch: TokenBatch) -> Callable[[], NDArray[np.float32]]:
        """Start on a batch without waiting for it; the function returned waits for the result.

        Override it, and set `batches_ahead`, where a device computes while its caller goes on.
        """
        rows = self.sentence_embeddings(batch)
        return lambda: rows

    def scores(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        """A reranker's scores before any activation function, float32 [batch, labels].

        A runtime whose backend states the kind "reranker" overrides it.
        """
        raise UnsupportedOperation(f"{type(self).__name__} does not score pairs of texts.")

    def token_vectors(self, batch: TokenBatch, *, workers: int = 1) -> NDArray[np.float32]:
        """A multi-vector model's vector of every token, float32 [batch, tokens, dimension].

        Those of padding mean nothing. Override it to compute them where the token embeddings are,
        or where a graph gives them.
        """
        hidden = self.token_embeddings(batch, workers=workers)
        result: NDArray[np.float32] = run_token_modules(np, self.architecture.modules, hidden)
        return result

    def preferred_workers(self, batches: int) -> int:
        """How many batches to run at once when there are `batches` of them."""
        return min(self.max_workers, batches)

    def close(self) -> None:  # noqa: B027 - most runtimes hold nothing to free
        """Free what the runtime holds. Calls after it fail."""


#: Opens a runtime: `open_runtime(source, architecture, options)`.
RuntimeFactory = Callable[["Checkpoint", "Architecture", "LoadOptions"], Runtime]


def as_numpy(value: Any) -> NDArray[np.float32]:
    """A C-contiguous float32 array of what a runtime returned."""
    return np.ascontiguousarray(value, dtype=np.float32)
