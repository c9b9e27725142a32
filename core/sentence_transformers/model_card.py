"""What a caller says of a model for its README.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from core.options import CardData


@dataclass
class SentenceTransformerModelCardData:
    """Goes into the README.md written for a model that has no README.md yet.

    Args:
        language: One or several, as ISO codes.
        license: As the Hub names it: `"apache-2.0"`, `"mit"`.
        model_name: The card's title; None for the directory's or the repository's name.
        model_id: `owner/name` that the card loads; None for where it is written to.
        train_datasets, eval_datasets: Mappings with `name` and `id`; the ids of the first go into
            the header.
        task_name: What the model is for, in words.
        tags: Of the header.
        local_files_only, generate_widget_examples: Accepted; nothing is looked up or computed.
    """

    language: str | list[str] | None = field(default_factory=list)
    license: str | None = None
    model_name: str | None = None
    model_id: str | None = None
    train_datasets: list[dict[str, str]] = field(default_factory=list)
    eval_datasets: list[dict[str, str]] = field(default_factory=list)
    task_name: str | None = None
    tags: list[str] = field(
        default_factory=lambda: [
            "sentence-transformers",
            "sentence-similarity",
            "feature-extraction",
            "dense",
        ]
    )
    local_files_only: bool = False
    generate_widget_examples: bool = True


def card_data(given: Any, name: str | None = None) -> CardData:
    """What core's card takes of this class, or of the reference's own.

    Args:
        name: How the card loads the model, where `model_id` does not say.
    """

    def read(attribute: str) -> Any:
        return getattr(given, attribute, None) or None

    language = read("language")
    datasets = [entry["id"] for entry in read("train_datasets") or [] if entry.get("id")]
    return CardData(
        title=read("model_name"),
        name=read("model_id") or name,
        task=read("task_name"),
        header={
            "language": [language] if isinstance(language, str) else language,
            "license": read("license"),
            "tags": read("tags"),
            "datasets": datasets or None,
        },
    )
