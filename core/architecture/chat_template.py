"""The chat template that makes one text of a query and a document, read from a reranker's files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from core.errors import ModelFormatError
from core.files.source import Source

#: Architectures whose templates take plain text although nothing in the template shows it.
_FLAT = ("apertus", "deepseek_v3", "gpt_oss", "seed_oss")
#: What a template holds that takes a message's content as a list of parts.
_STRUCTURED = ("content[0]", ".type", "'type'", '"type"', "item.type", "message.content[")


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template that a pair is put into.

    Attributes:
        text: Its source.
        structured: Whether a message's content is a list of `{"type": "text", "text": ...}`
            instead of the text.
        arguments: What else it is given, by name.
    """

    text: str
    structured: bool
    arguments: Mapping[str, Any] = field(default_factory=dict)


def read_chat_template(
    source: Source,
    prefix: str,
    transformer: Mapping[str, Any],
    config: Mapping[str, Any],
    listed: bool,
) -> ChatTemplate | None:
    """The template that pairs are put into; None where the tokenizer takes pairs itself.

    As sentence-transformers: it is used where sentence_bert_config.json has the modality
    "message", and where there is no modules.json if the tokenizer has a template at all.

    Args:
        listed: Whether the checkpoint has a modules.json.

    Raises:
        ModelFormatError: The files ask for a template and have none.
    """
    modalities = transformer.get("modality_config")
    asked = isinstance(modalities, Mapping) and "message" in modalities
    if listed and not asked:
        return None
    found = chat_template(source, prefix)
    if found is None:
        if asked:
            raise ModelFormatError(
                f"{source}: its pairs are put into a chat template, and neither "
                f"{prefix}chat_template.jinja nor {prefix}tokenizer_config.json has one. Restore "
                "or download the tokenizer's files again."
            )
        return None
    message = modalities.get("message") if isinstance(modalities, Mapping) else None
    stated = message.get("format") if isinstance(message, Mapping) else None
    if stated in ("structured", "flat"):
        structured = stated == "structured"
    else:
        flat = str(config.get("model_type")) in _FLAT
        structured = not flat and any(pattern in found for pattern in _STRUCTURED)
    processing = transformer.get("processing_kwargs")
    arguments = processing.get("chat_template") if isinstance(processing, Mapping) else None
    return ChatTemplate(found, structured, arguments if isinstance(arguments, dict) else {})


def chat_template(source: Source, prefix: str) -> str | None:
    """The template among a tokenizer's files; None if there is none."""
    name = f"{prefix}chat_template.jinja"
    if source.has(name):
        return source.read_text(name)
    name = f"{prefix}tokenizer_config.json"
    stated = source.read_json(name).get("chat_template") if source.has(name) else None
    if isinstance(stated, list):  # several, by name
        named = {e.get("name"): e.get("template") for e in stated if isinstance(e, Mapping)}
        stated = named.get("default")
    return stated if isinstance(stated, str) and stated else None
