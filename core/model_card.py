"""README.md of a saved model that has none."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from core.install import INSTALL_COMMANDS

if TYPE_CHECKING:
    from core.model import EmbeddingModel

#: Backends of sentence-transformers, which names them as core does.
_REFERENCE_BACKENDS = ("torch", "onnx", "openvino")
_CARD = """\
---
pipeline_tag: feature-extraction
tags:
- sentence-transformers
- feature-extraction
- sentence-similarity
{base}---

# {title}

Maps a text to a vector of {dimension} numbers, for search, clustering and comparison.

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
    origin = model.source.repo_id
    length = model.max_seq_length
    option = "" if model.backend == "torch" else f', backend="{model.backend}"'
    shared = model.backend in _REFERENCE_BACKENDS or model.source.architecture.is_static
    package = model.hooks.distribution.partition(" ")[0]
    install = INSTALL_COMMANDS.get(model.backend) or f"pip install {package}"
    prompts = "".join(
        f"| prompt `{key}` | `{json.dumps(text, ensure_ascii=False)}` |\n"
        for key, text in model.prompts.items()
    )
    return _CARD.format(
        base=f"base_model: {origin}\n" if origin else "",
        title=name.rpartition("/")[2],
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
