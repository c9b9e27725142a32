"""What a backend's `load` puts into a model: it runs one padded batch of token ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.modules import run_modules

if TYPE_CHECKING:
    from core.architecture import Architecture
    from core.checkpoint import Checkpoint
    from core.options import LoadOptions


@dataclass(frozen=True)
class TokenBatch:
    """One padded batch.

    Attributes:
        input_ids: int64 [batch, tokens].
        attention_mask: int64 [batch, tokens], 1 for real tokens; padding is on one side only.
        token_type_ids: int64 [batch, tokens].
        prompt_tokens: How many of each row's first real tokens belong to the prompt and are left
            out of pooling (0 for models that pool over the prompt).
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    prompt_tokens: int = 0

    @cached_property
    def position_ids(self) -> NDArray[np.int64]:
        """int64 [batch, tokens]: 0, 1, ... from each row's first real token; 0 on padding."""
        positions = np.cumsum(self.attention_mask, axis=1) - 1
        return np.asarray(np.maximum(positions, 0) * self.attention_mask, dtype=np.int64)

    @cached_property
    def pooling_mask(self) -> NDArray[np.int64]:
        """The attention mask without the prompt's tokens."""
        if not self.prompt_tokens:
            return self.attention_mask
        position = np.cumsum(self.attention_mask, axis=1)
        return np.asarray(
            np.where(position > self.prompt_tokens, self.attention_mask, 0), dtype=np.int64
        )

    @property
    def rows(self) -> int:
        """How many texts the batch holds."""
        return int(self.input_ids.shape[0])

    @property
    def width(self) -> int:
        """Tokens of a row, padding included."""
        return int(self.input_ids.shape[1])


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

    #: The `torch.device` tensors of the embeddings belong on; None leaves them on the CPU.
    tensor_device: Any = None
    #: Whether batches may be padded on the side the tokenizer does not use, positions counted from
    #: the padding's start as in PyTorch. Only verification does that; False leaves it out.
    any_padding_side: bool = True

    def __init__(self, architecture: Architecture) -> None:
        self.architecture = architecture

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
