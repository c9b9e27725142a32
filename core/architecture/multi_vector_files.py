"""A multi-vector model's files: those of sentence-transformers 6, of PyLate and of Stanford's
ColBERT."""

from __future__ import annotations

import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.architecture.architecture import Architecture
from core.architecture.chain import Chain
from core.architecture.entries import module_types, unknown_module
from core.architecture.kinds import COLBERT_METADATA, is_stanford_colbert
from core.architecture.late_interaction import (
    EXPANSION_STRATEGIES,
    MAXSIM_FUNCTIONS,
    TASKS,
    LateInteraction,
    QueryExpansion,
    TokenPooling,
)
from core.architecture.limits import hidden_size, position_limit
from core.architecture.module_files import read_inner_projection, read_module, read_module_config
from core.architecture.modules import Dense, Normalize
from core.architecture.settings import flag, stated_size, text
from core.architecture.transformer_files import (
    TASK_LENGTHS,
    check_adapter,
    read_config,
    read_limits,
    read_settings,
    read_transformer,
    transformer_task,
)
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.source import Source

MODULE_CLASSES = (
    "Transformer",
    "Dense",
    "MultiVectorMask",
    "Normalize",
    "HierarchicalTokenPooling",
    "Dropout",
)
#: PyLate's class that is one of sentence-transformers' by another name.
_PYLATE_DENSE = ("pylate.models.Dense", "Dense")
#: Settings of the whole model by which PyLate's are known.
PYLATE_SETTINGS = (
    "query_prefix",
    "document_prefix",
    "do_query_expansion",
    "attend_to_expansion_tokens",
    "attend_to_mask_tokens",
    "skiplist_words",
    "query_length",
    "document_length",
    "query_expansion",
)
#: ColBERT's own number of tokens in a query.
_USUAL_LENGTH = 32
_SETTINGS = "config_sentence_transformers.json"
_TOKENS = "token_embeddings"


def read_multi_vector(source: Source, weights: bool) -> Architecture:
    """The architecture of a multi-vector model.

    Raises:
        ModelFormatError: Files are missing or damaged, or do not fit together.
        UnsupportedOperation: It is built of other modules than those that are run here, or has no
            projection that was trained.
    """
    if source.has("modules.json"):
        return _read_listed(source, weights)
    if is_stanford_colbert(source):
        return _read_stanford(source, weights)
    raise UnsupportedOperation(
        f"{source} has neither modules.json nor the architecture HF_ColBERT in config.json: "
        "nothing projects its token embeddings. sentence-transformers would add a projection of "
        "random numbers; train it there, and load what it saves."
    )


def _read_listed(source: Source, weights: bool) -> Architecture:
    """The layouts with a modules.json: sentence-transformers' and PyLate's."""
    settings = source.read_json(_SETTINGS) if source.has(_SETTINGS) else {}
    entries = _read_entries(source)
    path = entries[0][1]
    prefix = f"{path}/" if path else ""
    check_adapter(source, prefix)
    task = transformer_task(source, prefix)
    if task != "feature-extraction":
        raise UnsupportedOperation(
            f"{source}: its transformer is built for {task!r}; core runs multi-vector models of "
            "texts, whose transformer gives token embeddings (feature-extraction)."
        )
    config = read_config(source, prefix)
    transformer = read_transformer(source, prefix, task_lengths=True)
    kind = settings.get("model_type")
    converted = kind in (None, "SentenceTransformer")
    chain = Chain(source, hidden_size(config), False, "auto_map" in config)
    listed = _read_modules(source, entries, weights, chain, converted=converted)
    rules, names = listed.rules, listed.entries
    masked = any(name == "MultiVectorMask" for name, _ in names)
    prefixes = _prefixes(source, settings)
    if (converted or kind == "ColBERT") and not masked:
        # PyLate masks and normalizes by itself: its files list neither.
        if converted and not chain.modules:
            raise UnsupportedOperation(
                f"{source} has no Dense module that projects token embeddings. "
                "sentence-transformers would add one of random numbers; train it there, and load "
                "what it saves."
            )
        words = settings.get("skiplist_words")
        if words is None:
            words = list(string.punctuation) if prefixes or not converted else []
        rules = replace(rules, skiplist_words=_words(source, words))
        chain.add(Normalize(_TOKENS), "")
        names += [("MultiVectorMask", ""), ("Normalize", "")]
        masked = True
    rules = _with_lengths(source, rules, settings, transformer, masked=masked)
    given = settings.get("prompts") or {}
    prompts = {**dict.fromkeys(TASKS, ""), **given} if isinstance(given, dict) else given
    for task, mark in prefixes.items():
        saved = prompts.get(task) or "" if isinstance(prompts, dict) else None
        if isinstance(saved, str):  # what else there may be is refused below
            prompts[task] = mark + saved.removeprefix(mark)
    return _architecture(
        source, prefix, path, names, chain, config, transformer,
        replace(rules, prefixes=tuple(mark for mark in prefixes.values() if mark)), prompts,
    )  # fmt: skip


@dataclass
class _Listed:
    """What the modules after the transformer say of tokens, and those of them that do anything."""

    rules: LateInteraction
    entries: list[tuple[str, str]]


def _read_modules(
    source: Source,
    entries: list[tuple[str, str]],
    weights: bool,
    chain: Chain,
    *,
    converted: bool,
) -> _Listed:
    """Read the modules after the transformer; those that compute go into `chain`.

    Args:
        converted: Whether the files are those of an embedding model, whose Dense projects a
            sentence's embedding.
    """
    found = _Listed(LateInteraction(), [entries[0]])
    for name, folder in entries[1:]:
        pooling = found.rules.pooling
        if pooling is not None and name not in ("Normalize", "Dropout"):
            raise UnsupportedOperation(
                f"{source}: a {name} follows its HierarchicalTokenPooling; core pools last."
            )
        if name == "Dropout" or (name == "Normalize" and not _normalizes_tokens(source, folder)):
            continue
        if name == "MultiVectorMask":
            found.rules = _read_mask(source, folder, found.rules)
        elif name == "HierarchicalTokenPooling":
            found.rules = replace(found.rules, pooling=_read_pooling(source, folder))
        elif name == "Dense":
            chain.add(_read_dense(source, folder, weights, converted=converted), folder)
        elif pooling is not None:  # what is pooled is scaled
            scaled = replace(pooling, normalize_embeddings=True)
            found.rules = replace(found.rules, pooling=scaled)
            continue
        else:
            chain.add(Normalize(_TOKENS), folder)
        found.entries.append((name, folder))
    return found


def _read_stanford(source: Source, weights: bool) -> Architecture:
    """Stanford's layout: the projection lies among the transformer's weights."""
    found = source.read_json(COLBERT_METADATA) if source.has(COLBERT_METADATA) else {}
    where = f"{source}: {COLBERT_METADATA}"
    check_adapter(source, "")
    config = read_config(source, "")
    prompts = {
        "query": text(found, where, "query_token_id", "") or "[unused0]",
        "document": text(found, where, "doc_token_id", "") or "[unused1]",
    }
    prompts = {name: f"{mark} " for name, mark in prompts.items()}
    skips = flag(found, where, "mask_punctuation", True)
    rules = LateInteraction(
        document_length=stated_size(found, where, "doc_maxlen"),
        expansion=QueryExpansion(
            stated_size(found, where, "query_maxlen") or _USUAL_LENGTH,
            attend=flag(found, where, "attend_to_mask_tokens", False),
        ),
        skiplist_words=tuple(string.punctuation) if skips else (),
        prefixes=tuple(prompts.values()),
    )
    chain = Chain(source, hidden_size(config), False, "auto_map" in config)
    width = stated_size(found, where, "dim") or 0
    chain.add(read_inner_projection(source, width, chain.hidden, weights), "")
    chain.add(Normalize(_TOKENS), "")
    listed = [("Transformer", ""), ("Dense", ""), ("MultiVectorMask", ""), ("Normalize", "")]
    return _architecture(source, "", "", listed, chain, config, {}, rules, prompts)


def _architecture(
    source: Source,
    prefix: str,
    path: str,
    entries: list[tuple[str, str]],
    chain: Chain,
    config: Mapping[str, Any],
    transformer: Mapping[str, Any],
    rules: LateInteraction,
    prompts: Mapping[str, str],
) -> Architecture:
    settings = read_settings(source, prompts, MAXSIM_FUNCTIONS)
    most = position_limit(config, hard=False)
    if most is not None and rules.expansion is not None and rules.expansion.length > most:
        raise ModelFormatError(
            f"{source}: queries are filled up to {rules.expansion.length} tokens (query_expansion "
            f"or query_maxlen), and its transformer has {most} positions. Set a length that it has."
        )
    return Architecture(
        path=path,
        is_static=False,
        entries=tuple(entries),
        modules=tuple(chain.modules),
        config=config,
        hidden_size=chain.hidden,
        dimension=chain.hidden,
        kind="multi_vector",
        late_interaction=rules,
        **read_limits(source, prefix, transformer, config),
        **settings,
    )


def _read_entries(source: Source) -> list[tuple[str, str]]:
    entries = []
    for package, name, folder in module_types(source):
        known = package.split(".")[0] == "sentence_transformers" or (package, name) == _PYLATE_DENSE
        if not known:
            raise UnsupportedOperation(
                f"{source}: modules.json names '{package}.{name}', code that comes with the model. "
                "core never runs custom modules, with or without trust_remote_code; it runs "
                f"{', '.join(MODULE_CLASSES)}."
            )
        if name == "Pooling":  # of the model it was trained from; every token has a vector here
            continue
        if name not in MODULE_CLASSES:
            raise unknown_module(source, name, MODULE_CLASSES)
        entries.append((name, folder))
    if not entries or entries[0][0] != "Transformer":
        first = entries[0][0] if entries else "Pooling"
        raise ModelFormatError(
            f"{source}: the first module of modules.json is {first}; it must be a Transformer."
        )
    return entries


def _read_dense(source: Source, folder: str, weights: bool, *, converted: bool) -> Dense:
    """A projection of token embeddings; older files do not say of what."""
    dense = read_module(source, "Dense", folder, weights)
    assert isinstance(dense, Dense)
    stated = read_module_config(source, folder).get("module_input_name")
    if stated is not None and dense.input_name != _TOKENS and not converted:
        raise UnsupportedOperation(
            f"{source}: the Dense in {folder!r} takes {dense.input_name!r}, which nothing makes in "
            f"a multi-vector model; it must take {_TOKENS!r}."
        )
    return replace(dense, input_name=_TOKENS, output_name=_TOKENS)


def _normalizes_tokens(source: Source, folder: str) -> bool:
    """Whether a Normalize does anything: that of a sentence embedding has nothing to do here."""
    name = f"{folder}/config.json" if folder else "config.json"
    if not folder or not source.has(name):
        return False
    return text(source.read_json(name), f"{source}: {name}", "module_input_name", "") == _TOKENS


def _read_mask(source: Source, folder: str, rules: LateInteraction) -> LateInteraction:
    config, where = read_module_config(source, folder), f"{source}: {folder}/config.json"
    ids = config.get("keep_only_token_ids")
    if ids is not None and not _is_list_of(ids, int):
        raise ModelFormatError(f"{where}: keep_only_token_ids is {ids!r}; it must list token ids.")
    return replace(
        rules,
        skiplist_words=_words(source, config.get("skiplist_words") or []),
        skiplist_tasks=_tasks(where, config, "skiplist_tasks"),
        keep_only_token_ids=tuple(ids) if ids else None,
    )


def _read_pooling(source: Source, folder: str) -> TokenPooling:
    config, where = read_module_config(source, folder), f"{source}: {folder}/config.json"
    factor, kept = config.get("pool_factor", 1.0), config.get("num_protected_tokens", 1)
    number = isinstance(factor, int | float) and not isinstance(factor, bool)
    if not number or not factor >= 1:  # NaN is neither above nor below
        raise ModelFormatError(f"{where}: pool_factor is {factor!r}; it must be 1 or more.")
    if isinstance(kept, bool) or not isinstance(kept, int) or kept < 0:
        raise ModelFormatError(f"{where}: num_protected_tokens is {kept!r}; it must be 0 or more.")
    # Files without the setting are older than it.
    scaled = flag(config, where, "normalize_embeddings", False)
    return TokenPooling(factor, kept, scaled, _tasks(where, config, "tasks"))


def _tasks(where: str, config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    tasks = config.get(name)
    if tasks is None:
        return ("document",)
    tasks = [tasks] if isinstance(tasks, str) else tasks
    if not _is_list_of(tasks, str):
        raise ModelFormatError(f"{where}: {name} is {tasks!r}; it must list some of {TASKS}.")
    return tuple(tasks)


def _words(source: Source, words: Any) -> tuple[str, ...]:
    if not _is_list_of(words, str):
        raise ModelFormatError(
            f"{source}: skiplist_words is {words!r:.80}; it must be a list of tokens."
        )
    return tuple(words)


def _is_list_of(values: Any, kind: type) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, kind) and not isinstance(value, bool) for value in values
    )


def _prefixes(source: Source, settings: Mapping[str, Any]) -> dict[str, str]:
    """PyLate's marks of queries and documents, which go in front of a prompt."""
    return {
        task: text(settings, f"{source}: {_SETTINGS}", f"{task}_prefix", "")
        for task in TASKS
        if f"{task}_prefix" in settings
    }


def _with_lengths(
    source: Source,
    rules: LateInteraction,
    settings: Mapping[str, Any],
    transformer: Mapping[str, Any],
    *,
    masked: bool,
) -> LateInteraction:
    """The rules with lengths and expansion: the transformer's, else PyLate's of the whole model."""
    where = f"{source}: {_SETTINGS}"
    older: dict[str, Any] = {
        name: settings[name]
        for name in ("query_length", "document_length")
        if settings.get(name) is not None
    }
    if "query_expansion" in settings:
        older["query_expansion"] = settings["query_expansion"]
    elif settings.get("do_query_expansion") is not False and any(
        name in settings for name in PYLATE_SETTINGS
    ):
        attend = settings.get("attend_to_expansion_tokens")
        if attend is None:
            attend = settings.get("attend_to_mask_tokens")
        length = older.pop("query_length", None) or _USUAL_LENGTH
        older["query_expansion"] = {"strategy": "fixed", "attend": bool(attend), "length": length}
    given = {**older, **{name: transformer[name] for name in TASK_LENGTHS if name in transformer}}
    query_length = stated_size(given, where, "query_length")
    expansion = _read_expansion(where, given.get("query_expansion"))
    if expansion is not None and query_length is not None and query_length < expansion.length:
        raise ModelFormatError(
            f"{source}: query_length is {query_length} and query_expansion fills queries up to "
            f"{expansion.length} tokens. Set query_length to that or more, or remove it."
        )
    if expansion is not None and not masked and not expansion.attend:
        # Nothing counts what it adds; what is left of it is its length.
        if expansion.strategy == "fixed":
            query_length = expansion.length
        expansion = None
    return replace(
        rules,
        query_length=query_length,
        document_length=stated_size(given, where, "document_length"),
        expansion=expansion,
    )


def _read_expansion(where: str, given: Any) -> QueryExpansion | None:
    if given is None:
        return None
    if not isinstance(given, Mapping) or given.get("strategy") not in EXPANSION_STRATEGIES:
        raise ModelFormatError(
            f"{where}: query_expansion is {given!r}; its strategy must be one of "
            f"{', '.join(EXPANSION_STRATEGIES)}."
        )
    length = stated_size(given, f"{where}: query_expansion", "length")
    if length is None:
        raise ModelFormatError(
            f"{where}: query_expansion has no length, the number of tokens of a query."
        )
    token = text(given, f"{where}: query_expansion", "token", "") or None
    return QueryExpansion(
        length, given["strategy"], flag(given, f"{where}: query_expansion", "attend", False), token
    )
