"""README.md of a saved model that has none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.install import INSTALL_COMMANDS

if TYPE_CHECKING:
    from core.model import EmbeddingModel


@dataclass(frozen=True, kw_only=True)
class CardData:
    """What the model's files do not say, for its card.

    Attributes:
        title: None for the last part of the name.
        name: What the card loads; None for what it is written as.
        task: What the model is for, in words.
        header: Entries of the card's YAML header beside the base model; None leaves one out.
    """

    title: str | None = None
    name: str | None = None
    task: str | None = None
    header: Mapping[str, Any] = field(default_factory=dict)


_GIVEN: ContextVar[CardData | None] = ContextVar("card_data", default=None)


@contextmanager
def described(data: CardData) -> Iterator[None]:
    """Inside, cards that are written say this."""
    token = _GIVEN.set(data)
    try:
        yield
    finally:
        _GIVEN.reset(token)


#: Backends of sentence-transformers, which names them as core does.
_REFERENCE_BACKENDS = ("torch", "onnx", "openvino")
_TAGS = ("sentence-transformers", "feature-extraction", "sentence-similarity")
_TASK = "search, clustering and comparison"
_CARD = """\
---
{header}
---

# {title}

Maps a text to a vector of {dimension} numbers, for {task}.

| | |
| --- | --- |
| dimension | {dimension} |
| longest text | {length} |
| similarity | {similarity} |
| modules | {modules} |
{prompts}
## Use it with core

```python
import core

model = core.load("{name}", backend="{backend}")
embeddings = model.encode(["one text", "another"])
print(model.similarity(embeddings, embeddings))
```

`{install}` installs what this needs.
{reference}"""

_REFERENCE = """
## Use it with sentence-transformers

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}"{option})
embeddings = model.encode(["one text", "another"])
```
"""


def model_card(model: EmbeddingModel, name: str) -> str:
    """The text of a README.md: what the model is and how to load it as `name`."""
    data = _GIVEN.get() or CardData()
    name = data.name or name
    length = model.max_seq_length
    option = "" if model.backend == "torch" else f', backend="{model.backend}"'
    shared = model.backend in _REFERENCE_BACKENDS or model.source.architecture.is_static
    package = model.hooks.distribution.partition(" ")[0]
    install = INSTALL_COMMANDS.get(model.backend) or f"pip install {package}"
    prompts = "".join(
        f"| prompt `{key}` | `{json.dumps(text, ensure_ascii=False)}` |\n"
        for key, text in model.prompts.items()
        if text
    )
    return _CARD.format(
        header=_header(model, data),
        title=data.title or name.rpartition("/")[2],
        task=data.task or _TASK,
        name=name,
        dimension=model.dimension,
        length=f"{length} tokens" if length else "no limit",
        similarity=model.similarity_fn_name,
        modules=", ".join(kind for kind, _ in model.source.architecture.entries),
        prompts=prompts,
        backend=model.backend,
        install=install,
        reference=_REFERENCE.format(name=name, option=option) if shared else "",
    )


def _header(model: EmbeddingModel, data: CardData) -> str:
    from huggingface_hub import ModelCardData

    given = {name: value for name, value in data.header.items() if value is not None}
    entries = {
        "pipeline_tag": "feature-extraction",
        "tags": list(_TAGS),
        "base_model": model.source.repo_id,
        **given,
    }
    return str(ModelCardData(**entries).to_yaml()).strip()
