"""A reranker's files: `*ForSequenceClassification`, or a language model with a `LogitScore`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.architecture.architecture import Architecture
from core.architecture.chat_template import read_chat_template
from core.architecture.entries import read_entries
from core.architecture.heads import ClassificationHead, LogitScore, Scoring
from core.architecture.limits import hidden_size
from core.architecture.settings import positive_number, text
from core.architecture.transformer_files import (
    check_adapter,
    is_first,
    read_config,
    read_limits,
    read_settings,
    read_transformer,
)
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.source import Source

MODULE_CLASSES = ("Transformer", "LogitScore", "Dropout")

#: Outputs of a transformer that a reranker's head reads.
_OUTPUTS = ("scores", "causal_logits")
#: What transformers takes for a configuration that does not say how many labels there are.
_USUAL_LABELS = 2
#: A name is made for each.
_MOST_LABELS = 1_000_000


def read_reranker(source: Source, weights: bool) -> Architecture:
    """The architecture of a reranker.

    Raises:
        ModelFormatError: Labels, or the tokens of a `LogitScore`, are missing or damaged.
        UnsupportedOperation: It is built of other modules than those that are run here.
    """
    listed = source.has("modules.json")
    entries = read_entries(source, MODULE_CLASSES) if listed else [("Transformer", "")]
    if entries[0][0] != "Transformer":
        raise ModelFormatError(
            f"{source}: the first module of modules.json is {entries[0][0]}; it must be a "
            "Transformer."
        )
    path = entries[0][1]
    prefix = f"{path}/" if path else ""
    check_adapter(source, prefix)
    config = read_config(source, prefix)
    transformer = read_transformer(source, prefix, _OUTPUTS, templates=True, task_lengths=True)
    head = _read_head(source, entries, config, prefix, listed)
    return Architecture(
        path=path,
        is_static=False,
        entries=tuple(entries),
        modules=(),
        config=config,
        hidden_size=hidden_size(config),
        dimension=len(head.labels),
        kind="reranker",
        head=head,
        chat_template=read_chat_template(source, prefix, transformer, config, listed),
        **read_limits(source, prefix, transformer, config),
        **read_settings(source),
    )


def _read_head(
    source: Source,
    entries: list[tuple[str, str]],
    config: Mapping[str, Any],
    prefix: str,
    listed: bool,
) -> Scoring:
    activation = _stated_activation(source, config)
    scoring = [folder for name, folder in entries if name == "LogitScore"]
    if scoring:
        return _read_logit_score(source, scoring[0], activation)
    if is_first(config, "ForCausalLM") and not listed:
        # The reference's default for a language model without modules.json.
        yes, no = (_token_id(source, prefix, word) for word in ("yes", "no"))
        return LogitScore(_labels(1), activation, yes, no)
    if not is_first(config, "ForSequenceClassification"):
        named = config.get("architectures")
        raise UnsupportedOperation(
            f"{source}: config.json names the architecture {named!r}, which has no classification "
            "head, and modules.json no LogitScore: nothing scores a pair. Train or save it as a "
            "*ForSequenceClassification."
        )
    labels = _read_labels(source, prefix, config)
    return ClassificationHead(labels, activation, _label_names(config) is not None)


def _stated_activation(source: Source, config: Mapping[str, Any]) -> str | None:
    """Which function the files name for the scores: of the newest layout that names one."""
    name = "config_sentence_transformers.json"
    newest = source.read_json(name) if source.has(name) and source.has("modules.json") else {}
    if newest.get("activation_fn") is not None:
        return text(newest, f"{source}: {name}", "activation_fn", "")
    where = f"{source}: config.json"
    outer = config.get("outer", config)
    nested = outer.get("sentence_transformers")
    if isinstance(nested, Mapping) and nested.get("activation_fn") is not None:
        return text(nested, where, "activation_fn", "")
    return text(outer, where, "sbert_ce_default_activation_function", "") or None


def _read_labels(source: Source, prefix: str, config: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the scores, by `id2label`."""
    names = _label_names(config)
    if names is None:
        count = positive_number(config, "num_labels") or _USUAL_LABELS
        if count > _MOST_LABELS:
            raise ModelFormatError(
                f"{source}: num_labels in {prefix}config.json is {count}; no model gives so many "
                "scores. Restore or download the file again."
            )
        return _labels(count)
    where = f"{source}: id2label in {prefix}config.json"
    if not isinstance(names, Mapping) or not names:
        raise ModelFormatError(
            f"{where} is {names!r}; it must map the numbers from 0 to a name for each score, as "
            '{"0": "LABEL_0"}.'
        )
    by_number = {str(number): str(name) for number, name in names.items()}
    missing = [str(n) for n in range(len(by_number)) if str(n) not in by_number]
    if missing:
        raise ModelFormatError(
            f"{where} has {len(by_number)} labels and none for {', '.join(missing)}; it must name "
            "the numbers from 0 without a gap."
        )
    return tuple(by_number[str(number)] for number in range(len(by_number)))


def _label_names(config: Mapping[str, Any]) -> Any:
    return config.get("outer", config).get("id2label", config.get("id2label"))


def _labels(count: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{number}" for number in range(count))


def _read_logit_score(source: Source, folder: str, activation: str | None) -> LogitScore:
    name = f"{folder}/config.json" if folder else "config.json"
    if not source.has(name):
        raise ModelFormatError(
            f"{source}: modules.json names the folder {folder!r}, but {name} is missing."
        )
    config = source.read_json(name)
    numbers = []
    for key in ("true_token_id", "false_token_id"):
        value = config.get(key)
        wanted = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not wanted and not (value is None and key == "false_token_id"):
            raise ModelFormatError(
                f"{source}: {key} in {name} is {value!r}; it must be a token id."
            )
        numbers.append(value)
    return LogitScore(_labels(1), activation, numbers[0], numbers[1])


def _token_id(source: Source, prefix: str, word: str) -> int:
    """The id of a token of one word, from tokenizer.json."""
    name = f"{prefix}tokenizer.json"
    content: Mapping[str, Any] = source.read_json(name) if source.has(name) else {}
    model = content.get("model")
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(vocabulary, Mapping):
        number = vocabulary.get(word)
    else:
        pieces = vocabulary if isinstance(vocabulary, list) else []
        number = next((i for i, piece in enumerate(pieces) if piece[0] == word), None)
    if not isinstance(number, int):
        raise ModelFormatError(
            f"{source} is a language model without modules.json: its score is the logit of 'yes' "
            f"less that of 'no', and its tokenizer has no token {word!r}. Add a LogitScore module "
            "that names the tokens (true_token_id, false_token_id)."
        )
    return number
