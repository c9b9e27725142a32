"""What a class of transformers takes and gives, by its declaration: whether it embeds texts, and
which inputs it must be given."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from typing import Any

import torch

from core import Checkpoint
from core.errors import UnsupportedOperation


def check_encoder(source: Checkpoint, module: torch.nn.Module) -> None:
    """Refuse a model that does not take token ids alone, or gives no token embeddings.

    CLIP compares images with texts, DPR gives a vector of its own: run on texts, either would fail
    inside transformers with the first batch.

    Raises:
        UnsupportedOperation: The message says what the model takes or gives.
    """
    kind = type(module)
    called = f"{source} is a {kind.__name__} (model_type {_model_type(module)!r})"
    advice = (
        "Give a checkpoint of its text encoder alone, saved from the class that has "
        "`last_hidden_state`, such as BertModel or CLIPTextModel."
    )
    signature = inspect.signature(module.forward)
    if "input_ids" not in signature.parameters and not _takes_anything(signature):
        takes = ", ".join(list(signature.parameters)[:3])
        raise UnsupportedOperation(f"{called}, which takes {takes} and not texts. {advice}")
    outputs = _declared_outputs(kind, signature.return_annotation)
    if outputs and not any("last_hidden_state" in fields for fields in outputs):
        gives = ", ".join(name for name in outputs[0] if name not in _ALSO)
        raise UnsupportedOperation(
            f"{called}, which gives {gives}, and not the token embeddings that core pools "
            f"(last_hidden_state). {advice}"
        )
    if getattr(getattr(module, "config", None), "is_encoder_decoder", False):
        _check_decoder(module, called)


def _check_decoder(module: torch.nn.Module, called: str) -> None:
    """Refuse an encoder-decoder that needs a text for its decoder, too; BART takes the same."""
    padding = getattr(module.config, "pad_token_id", None)
    token = torch.full((1, 1), 1 if padding == 0 else 0)
    try:
        with torch.inference_mode():
            module(input_ids=token, attention_mask=torch.ones_like(token))
    except (TypeError, ValueError) as error:
        raise UnsupportedOperation(
            f"{called}, whose decoder needs a text of its own, and core has one text to embed. Of "
            "encoder-decoders it runs those whose encoder transformers loads alone, such as T5's, "
            "and those that hand their decoder the same text, such as BART."
        ) from error
    except (IndexError, RuntimeError):
        return  # what is wrong with this token may be right with a text


#: In every output, whatever the model computes.
_ALSO = ("loss", "hidden_states", "attentions")


def _model_type(module: torch.nn.Module) -> str:
    return str(getattr(getattr(module, "config", None), "model_type", "unknown"))


def _takes_anything(signature: inspect.Signature) -> bool:
    names = [p for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    return bool(names) and len(signature.parameters) <= 2  # a wrapper's (*args, **kwargs)


def _declared_outputs(kind: type, annotation: Any) -> list[tuple[str, ...]]:
    """The fields of each output class that a forward says it returns; none where it says nothing.

    Read from the words of the annotation: code of transformers' own and of models is annotated in
    many ways.
    """
    names = re.findall(r"\w+", annotation if isinstance(annotation, str) else repr(annotation))
    scope = vars(sys.modules.get(kind.__module__, sys))
    found = [scope.get(name) for name in names]
    return [
        tuple(field.name for field in dataclasses.fields(output))
        for output in found
        if isinstance(output, type)
        and dataclasses.is_dataclass(output)
        and output.__name__.endswith(("Output", "Attentions", "Pooling", "State"))
    ]


def forward_inputs(module: torch.nn.Module) -> tuple[str, ...]:
    """Which token inputs a module must be given, in the order of its forward."""
    usual = ("input_ids", "attention_mask")
    known = (*usual, "token_type_ids") if _has_token_types(module) else usual
    parameters = inspect.signature(module.forward).parameters
    return tuple(name for name in parameters if name in known) or usual


def vocabulary_size(module: torch.nn.Module) -> int | None:
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
