"""A torch module in a form an exporter can trace; shared by the backends that export from one.

torch and transformers are imported inside: `core` runs without them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from core import Architecture, Checkpoint
from core.errors import CoreError, UnsupportedOperation
from core.toolkit import (
    Dense,
    MaskedLanguageHead,
    Module,
    TokenHeads,
    finish_head,
    quiet_transformers,
    run_token_modules,
)
from torch_backend.heads import head_scores, scored_tokens
from torch_backend.masks import traceable_masks
from torch_backend.pooled_logits import pooled_logits, pooling_of, splade_weights
from torch_backend.relative_positions import tabled_positions


def hidden_state(output: Any) -> Any:
    """The last hidden state in what a transformer returns: an object, or a tuple it comes first in.

    config.json, and a model's own code, may ask for either.
    """
    state = getattr(output, "last_hidden_state", None)
    return output[0] if state is None else state


_EXAMPLE_TOKENS = 16


@contextmanager
def traced_head(module: Any, architecture: Architecture) -> Iterator[None]:
    """Around the tracing of a module: in float32, its weights as they are computed from others
    (LoRA, weight normalization), and what a head reads as constants."""
    from torch.nn.utils.parametrize import remove_parametrizations

    module.float()
    for part in list(module.modules()):
        for name in list(getattr(part, "parametrizations", ())):
            remove_parametrizations(part, name)
    scored = scored_tokens(module) if architecture.head is not None else None
    with nullcontext() if scored is None else scored.as_constants():
        yield


def traceable_module(
    module: Any,
    names: Sequence[str],
    max_length: int | None = None,
    architecture: Architecture | None = None,
    *,
    vectors: Sequence[Module] = (),
    token_heads: TokenHeads | None = None,
) -> tuple[Any, tuple[Any, ...]]:
    """A torch module that takes int64 [batch, tokens] tensors in the order of `names` and returns
    the last hidden state [batch, tokens, hidden], and example inputs for it.

    Args:
        max_length: The maximum number of tokens in a text; None for any number.
        architecture: Of a module with a head, what that is: scores [batch, labels], or the weights
            of words [batch, vocabulary], are returned instead.
        vectors: Modules of token embeddings, whose result [batch, tokens, dimension] is returned
            as well.
        token_heads: Return what these give, too, in the order of their names.
    """
    import torch

    head = None if architecture is None else architecture.head
    pooling = None
    if architecture is not None and isinstance(head, MaskedLanguageHead):
        pooling = pooling_of(architecture)
    extra = (
        {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}
    )

    heads = () if token_heads is None else token_heads.names

    class Traceable(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module
            # As parameters, which an exporter writes as weights and not as a part of the program.
            self.heads = torch.nn.ModuleDict(
                {name: _linear(getattr(token_heads, name)) for name in heads}
            )

        def forward(self, *tensors: torch.Tensor) -> Any:
            inputs = dict(zip(names, tensors, strict=True))
            run = functools.partial(self.module, **extra)
            if pooling is not None:
                return splade_weights(run, inputs, pooling, pooled_logits(self.module))
            if head is not None:
                return head_scores(run, self.module, inputs)
            hidden = hidden_state(run(**inputs))
            if vectors:
                return hidden, run_token_modules(torch, vectors, hidden)
            if token_heads is None:
                return hidden
            return hidden, *(finish_head(torch, name, self.heads[name](hidden)) for name in heads)

    module.float()
    config = getattr(module, "config", None)
    # A model may have fewer positions, or fewer token ids, than the usual example.
    width = min(_EXAMPLE_TOKENS, max_length or _EXAMPLE_TOKENS)
    ids = min(3, max(int(getattr(config, "vocab_size", None) or 4) - 1, 0))
    example = {name: torch.zeros((2, width), dtype=torch.int64) for name in names}
    example["input_ids"] += ids
    if "attention_mask" in example:
        # Padding on both sides: a mask of ones only would be traced as no mask.
        last = max(3 * width // 4, 1)
        example["attention_mask"][0, :last] = 1
        example["attention_mask"][1, min(2, width - 1) :] = 1
    return Traceable().eval(), tuple(example.values())


def _linear(head: Dense) -> Any:
    """A head's layer as a module."""
    import torch

    outputs, inputs = head.weight.shape
    with torch.no_grad():
        layer = torch.nn.Linear(inputs, outputs, bias=head.bias is not None)
        layer.weight.copy_(torch.from_numpy(head.weight))
        if head.bias is not None:
            layer.bias.copy_(torch.from_numpy(head.bias))
    return layer


#: How converters begin before they say what is wrong.
_GENERAL = (
    "Check 'false' failed at", "FrontEnd API failed", "Model wasn't fully converted", "Summary:",
    "Couldn't get TorchScript module", "Exception:",
)  # fmt: skip


def _reason(error: Exception) -> str:
    """The line that says what is wrong; the first one where none is known to say less."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_GENERAL)]
    return (telling or lines or [""])[0].removeprefix("-- ")[:300].rstrip(".")


@contextmanager
def tracing(source: Checkpoint, wanted: str) -> Iterator[None]:
    """Around the tracer: without gradients and warnings, and what it cannot trace explained.

    The tracer warns of constants that may depend on the traced shape. The verification of every
    export looks for them: it runs other shapes.

    Raises:
        UnsupportedOperation: The tracer failed.
    """
    import warnings

    import torch

    try:
        with (
            torch.no_grad(),
            quiet_transformers(),
            warnings.catch_warnings(),
            traceable_masks(),
            tabled_positions(),
        ):
            warnings.simplefilter("ignore")
            yield
    except CoreError:
        raise
    except Exception as error:
        kind = source.architecture.model_type or "unknown architecture"
        reason = _reason(error)
        advice = "Use the torch backend."
        if not source.architecture.config.get("is_encoder_decoder"):  # Optimum takes those whole
            advice = (
                "Try exporter='optimum', which knows more architectures and needs "
                "`pip install core[optimum]`; or use the torch backend."
            )
        raise UnsupportedOperation(
            f"{source} ({kind}) cannot be traced into {wanted}: {type(error).__name__}: {reason}. "
            f"{advice}"
        ) from error
