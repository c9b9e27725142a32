"""Whether a class of transformers embeds texts: what it takes and gives, by its declaration."""

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
