"""README.md for a saved model that has no README.md yet."""

from __future__ import annotations

import json

from core.models.embedding import EmbeddingModel
from core.options import CardData
from core.plugin.known_backends import INSTALL_COMMANDS

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


def model_card(model: EmbeddingModel, data: CardData) -> str:
    """The text of a README.md: what the model is, and how to load it as `data.name`."""
    name = data.name or model.source.name
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
