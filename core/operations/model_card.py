"""README.md for a saved model that has no README.md yet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.architecture.kinds import EMBEDDING, MULTI_VECTOR, RERANKER, SPARSE
from core.models.embedding import EmbeddingModel
from core.models.model import Model
from core.models.multi_vector import MultiVectorEncoder
from core.models.reranker import Reranker
from core.models.sparse import SparseEncoder
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


_RERANKER_CARD = """\
---
{header}
---

# {title}

Scores pairs of texts, a query and a document, for {task}.

| | |
| --- | --- |
| labels | {labels} |
| longest pair | {length} |
| activation function | {activation} |
{prompts}
## Use it with core

```python
import core

model = core.load_reranker("{name}", backend="{backend}")
scores = model.predict([("a question", "an answer"), ("a question", "another answer")])
```

`{install}` installs what this needs.
{reference}"""

_RERANKER_REFERENCE = """
## Use it with sentence-transformers

```python
from sentence_transformers import CrossEncoder

model = CrossEncoder("{name}"{option})
scores = model.predict([("a question", "an answer"), ("a question", "another answer")])
```
"""


_SPARSE_CARD = """\
---
{header}
---

# {title}

Maps a text to a sparse vector of {dimension} dimensions, for {task}.

| | |
| --- | --- |
| dimension | {dimension} |
| longest text | {length} |
| most values | {max_active_dims} |
| similarity | {similarity} |
| modules | {modules} |
{prompts}
## Use it with core

```python
import core

model = core.load_sparse("{name}", backend="{backend}")
queries = model.encode_query(["a question"])
documents = model.encode_document(["an answer", "another answer"])
print(model.similarity(queries, documents))
```

`{install}` installs what this needs.
{reference}"""

_SPARSE_REFERENCE = """
## Use it with sentence-transformers

```python
from sentence_transformers import SparseEncoder

model = SparseEncoder("{name}"{option})
queries = model.encode_query(["a question"])
documents = model.encode_document(["an answer", "another answer"])
print(model.similarity(queries, documents))
```
"""


_MULTI_VECTOR_CARD = """\
---
{header}
---

# {title}

Maps every token of a text to a vector of {dimension} numbers, for {task}.

| | |
| --- | --- |
| dimension | {dimension} |
| longest query | {query_length} |
| longest document | {document_length} |
| similarity | {similarity} |
| modules | {modules} |
{prompts}
## Use it with core

```python
import core

model = core.load_multi_vector("{name}", backend="{backend}")
queries = model.encode_query(["a question"])
documents = model.encode_document(["an answer", "another answer"])
print(model.similarity(queries, documents))
```

`{install}` installs what this needs.
{reference}"""

_MULTI_VECTOR_REFERENCE = """
## Use it with sentence-transformers

```python
from sentence_transformers import MultiVectorEncoder

model = MultiVectorEncoder("{name}"{option})
queries = model.encode_query(["a question"])
documents = model.encode_document(["an answer", "another answer"])
print(model.similarity(queries, documents))
```
"""


@dataclass(frozen=True)
class _Template:
    """A kind of model's card."""

    card: str
    reference: str
    task: str
    pipeline_tag: str
    tags: tuple[str, ...]


_TEMPLATES: Mapping[str, _Template] = {
    EMBEDDING: _Template(_CARD, _REFERENCE, _TASK, "feature-extraction", _TAGS),
    RERANKER: _Template(
        _RERANKER_CARD,
        _RERANKER_REFERENCE,
        "ordering search results",
        "text-ranking",
        ("sentence-transformers", "cross-encoder", "reranker"),
    ),
    SPARSE: _Template(
        _SPARSE_CARD,
        _SPARSE_REFERENCE,
        "search with an inverted index",
        "feature-extraction",
        ("sentence-transformers", "sparse-encoder", "sparse"),
    ),
    MULTI_VECTOR: _Template(
        _MULTI_VECTOR_CARD,
        _MULTI_VECTOR_REFERENCE,
        "search by late interaction (MaxSim)",
        "feature-extraction",
        ("sentence-transformers", "multi-vector", "ColBERT"),
    ),
}


def model_card(model: Model, data: CardData) -> str:
    """The text of a README.md: what the model is, and how to load it as `data.name`."""
    template = _TEMPLATES[model.kind]
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
    return template.card.format(
        header=_header(model, data, template),
        title=data.title or name.rpartition("/")[2],
        task=data.task or template.task,
        name=name,
        **_facts(model),
        length=f"{length} tokens" if length else "no limit",
        modules=", ".join(kind for kind, _ in model.source.architecture.entries),
        prompts=prompts,
        backend=model.backend,
        install=install,
        reference=template.reference.format(name=name, option=option) if shared else "",
    )


def _facts(model: Model) -> dict[str, Any]:
    """What only this kind of model has to say of itself."""
    if isinstance(model, EmbeddingModel):
        return {"dimension": model.dimension, "similarity": model.similarity_fn_name}
    if isinstance(model, Reranker):
        function = model.activation.rpartition(".")[2]
        return {"labels": ", ".join(model.labels), "activation": function}
    if isinstance(model, SparseEncoder):
        return {
            "dimension": model.dimension,
            "similarity": model.similarity_fn_name,
            "max_active_dims": model.max_active_dims or "all",
        }
    if isinstance(model, MultiVectorEncoder):
        most = model.max_seq_length
        lengths = (model.query_length or most, model.document_length or most)
        query, document = (f"{n} tokens" if n else "no limit" for n in lengths)
        return {
            "dimension": model.dimension,
            "similarity": model.similarity_fn_name,
            "query_length": query,
            "document_length": document,
        }
    return {}


def _header(model: Model, data: CardData, template: _Template) -> str:
    from huggingface_hub import ModelCardData

    given = {name: value for name, value in data.header.items() if value is not None}
    entries = {
        "pipeline_tag": template.pipeline_tag,
        "tags": list(template.tags),
        "base_model": model.source.repo_id,
        **given,
    }
    return str(ModelCardData(**entries).to_yaml()).strip()
