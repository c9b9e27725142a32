"""The Python and the shell lines that do what a page does."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from core_ui.sessions import Variant

#: How a model of each kind compares texts.
_BY_TASKS = (
    "queries, documents = model.encode_query(texts), model.encode_document(texts)",
    "print(model.similarity(queries, documents))",
)
_COMPARED = {
    "embedding": (
        "embeddings = model.encode(texts)",
        "print(model.similarity(embeddings, embeddings))",
    ),
    "sparse": _BY_TASKS,
    "multi_vector": _BY_TASKS,
    "reranker": (
        "pairs = [(query, document) for query in texts for document in texts]",
        "print(model.predict(pairs).reshape(len(texts), len(texts)))",
    ),
}


def shell_lines(steps: Iterable[Sequence[str]]) -> str:
    """As one types them; `--json` is for the page."""
    return "\n".join(
        shlex.join(["core", *(word for word in step if word != "--json")]) for step in steps
    )


def arguments(*values: object, **named: object) -> str:
    """Arguments of a call, without those that are empty."""
    words = [repr(value) for value in values if value not in (None, "")]
    words += [f"{name}={value!r}" for name, value in named.items() if value not in (None, "")]
    return ", ".join(words)


def call(function: str, *values: object, **named: object) -> str:
    """A call, without the arguments that are empty."""
    return f"{function}({arguments(*values, **named)})"


def load_call(variant: Variant) -> str:
    """Loads a variant."""
    return call(
        "core.load" if variant.kind == "embedding" else f"core.load_{variant.kind}",
        variant.model,
        backend=variant.backend,
        file_name=variant.file_name,
        revision=variant.revision,
    )


def describe(variant: Variant) -> str:
    """Loads a model and prints what it is."""
    own = "labels" if variant.kind == "reranker" else "dimension"
    return (
        f"import core\n\nmodel = {load_call(variant)}\n"
        f"print(model.backend, model.{own}, model.max_seq_length, model.prompts)"
    )


def make(
    operation: str, variant: Variant, config: str | None, target: str, calibration: str = ""
) -> str:
    """One export, optimization or quantization."""
    if operation == "export":
        made = call(
            "core.export", variant.model, target, backend=variant.backend, revision=variant.revision
        )
        return f"import core\n\nartifact = {made}\nprint(artifact.path, artifact.verification)"
    done = arguments(config, target=target, calibration=calibration)
    return (
        f"import core\n\nmodel = {load_call(variant)}\n"
        f"artifact = core.{operation}(model, {done})\nprint(artifact.path, artifact.verification)"
    )


def tune(model: str, revision: str, texts: str, **goal: object) -> str:
    """The choice by measurement."""
    named = arguments(**{**goal, "revision": revision})
    return (
        "from pathlib import Path\n\nimport core\n\n"
        f"report = core.tune({model!r}, Path({texts!r}), {named})\n"
        "print(report.reason)"
    )


def compare(variants: Sequence[Variant], texts: str) -> str:
    """Similarities of the texts of a file, by each variant's own measure."""
    lines = ["from pathlib import Path", "", "import core", ""]
    lines.append(f"texts = Path({texts!r}).read_text().strip().split('\\n')")
    for variant in variants:
        lines.append(f"with {load_call(variant)} as model:")
        lines += [f"    {line}" for line in _COMPARED[variant.kind]]
    return "\n".join(lines)


def save(variant: Variant, target: str) -> str:
    """A directory with the one file that is loaded."""
    return f"import core\n\nmodel = {load_call(variant)}\ncore.save(model, {target!r})"


def push(path: str, repository: str, text: str, *, create_pr: bool) -> str:
    """An artifact, uploaded."""
    pushed = call("core.push", path, repository, create_pr=create_pr or None)
    head = "import core\n\n"
    if text:
        head = "from pathlib import Path\n\nimport core\n\n"
        pushed = f"{pushed[:-1]}, text=Path({text!r}).read_text())"
    return f"{head}artifact = {pushed}\nprint(artifact.url)"


def load_pushed(variant: Variant, repository: str, pull_request: str) -> str:
    """Loads what was pushed: from the pull request, and after it was merged."""
    merged = Variant(repository, "", variant.backend, variant.file_name, kind=variant.kind)
    if not pull_request:
        return f"import core\n\nmodel = {load_call(merged)}"
    proposed = Variant(
        repository, f"refs/pr/{pull_request}", variant.backend, variant.file_name, kind=variant.kind
    )
    return (
        f"import core\n\nmodel = {load_call(proposed)}\n\n# After the merge:\n"
        f"model = {load_call(merged)}"
    )
