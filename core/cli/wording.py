"""Messages of the library in the words of the command line."""

from __future__ import annotations

import argparse
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from core.architecture.kinds import KINDS, RERANKER

#: Of the library's own calls and arguments, what does the same in a shell.
_PHRASES = (
    (r", or name it at load: prompts=\{\.\.\.\}", ""),
    (r"field=\.\.\., or --field on the command line", "--field"),
    (r"Pass exist_ok=True to commit to it, or create_pr=True", "Pass --create-pr"),
    (r"push_to_hub=True or a repository", "--push-to-hub REPO"),
    (r"pass a token \(token=\.\.\.\), or", "log in with `hf auth login`, or"),
    (r"pass token=\.\.\., |token=\.\.\., ", ""),
    (r"cache_dir \(or \$HF_HOME\)", "$HF_HOME"),
    (r", or None for all\.", ", or leave it out for all."),
    (r"None leaves it to core", "leave it out for core's own choice"),
    (r'text_column=\("query", "document"\)', "--text-column query --text-column document"),
    (r"pairs, or corpus, queries and qrels", "--pairs, or --corpus, --queries and --qrels"),
    (r"model\.max_seq_length", "max_seq_length in sentence_bert_config.json"),
    (r"Pass core\.quantize_embeddings ranges or calibration_embeddings of many", "Give many texts"),
    (r", or pass ranges to core\.quantize_embeddings", ""),
    (r"model\.save\(path\)", "`core export --target DIRECTORY`"),
)
_CALL = re.compile(r"core\.(export|quantize|optimize)\((?:\.\.\.)?(?:, backend='(\w+)')?\)")

#: What a keyword of another kind of model is answered with; a command lacks most of the others.
_REFUSED = re.compile(
    r"\b\w+ does not take '(\w+)'(?:: it is for another kind of model|\. It takes: [^.]*)\."
)
_LOADED_WITH = re.compile(r"load it with (core\.load\w*)")
#: What a job of `core batch` was made with, and is asked for now.
_CHANGED = re.compile(r"\b(?:options\.|(model\.model_kwargs\.))(\w+) was ")
_WAS_AND_IS = re.compile(r"(--[\w-]+(?: \w+)?) was (.*?) and is (.*?)(?=; |\. )")
_GIVEN = {"None": "not given", "True": "given"}

#: Option of the command line to the argument's name where that differs.
_OTHER_NAMES = {
    "max_length": "max_seq_length",
    "normalize": "normalize_embeddings",
    "pool_factor": "token_pooling",
}


def in_shell_words(message: str, parser: argparse.ArgumentParser | None) -> str:
    """A message with arguments named as the command has them: `file_name` is `--file-name`.

    What the command has no option for stays as it is.
    """
    for pattern, replacement in _PHRASES:
        message = re.sub(pattern, replacement, message)
    message = _CALL.sub(_command, message)
    if parser is None:
        return message
    options = _options(parser)
    message = _LOADED_WITH.sub(lambda found: _use(found[1], parser), message)
    message = _REFUSED.sub(lambda found: _not_for_the_kind(found, options), message)
    message = _CHANGED.sub(lambda found: f"{_changed(found, options)} was ", message)
    for name in sorted(options, key=len, reverse=True):
        option, takes_value = options[name]
        # name='value', name=value, name=...; a plain word only where it cannot be English
        value = r"('[^']*'|\"[^\"]*\"|\.\.\.|[\w./-]*\w)"
        message = re.sub(
            rf"(?<![\w.'\"-]){name}={value}",
            lambda found, option=option, takes=takes_value: _written(option, takes, found[1]),  # type: ignore[misc]
            message,
        )
        if "_" in name:
            message = re.sub(rf"(?<![\w.'\"/-]){name}(?![\w=/'\"]|\.\w)", option, message)
    if "file_name" not in options:  # such a command takes a directory alone
        message = re.sub(
            r"(Give the model's directory, '[^']*'), and file_name='[^']*'", r"\1", message
        )
    message = _WAS_AND_IS.sub(
        lambda found: f"{found[1]} was {_given(found[2])} and is {_given(found[3])}", message
    )
    if "set" in options:
        message = re.sub(r"(?<![\w.'\"-])(min_cosine|external_data)=", r"--set \1=", message)
    return message


@contextmanager
def logged_in_shell_words(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Inside, what the library logs is worded as the command's errors are."""

    def reword(record: logging.LogRecord) -> bool:
        record.msg, record.args = in_shell_words(record.getMessage(), parser), ()
        return True

    logger = logging.getLogger("core")
    logger.addFilter(reword)
    try:
        yield
    finally:
        logger.removeFilter(reword)


def _command(found: re.Match[str]) -> str:
    backend = f" --backend {found[2]}" if found[2] else ""
    return f"`core {found[1]} MODEL{backend}`"


def _use(loader: str, parser: argparse.ArgumentParser) -> str:
    """What a command does with a model of the kind that a function loads."""
    kind = next((kind for kind, found in KINDS.items() if found.loader == loader), None)
    if kind is None:
        return f"load it with {loader}"
    for action in parser._actions:
        if action.dest == "kind" and kind in (action.choices or ()):
            return f"give --kind {kind}"
    return f"use `core {'rerank' if kind == RERANKER else 'encode'}`"


def _not_for_the_kind(found: re.Match[str], options: Mapping[str, tuple[str, bool]]) -> str:
    if found[1] not in options:
        return found[0]
    return f"{options[found[1]][0]} is not for this kind of model."


def _changed(found: re.Match[str], options: Mapping[str, tuple[str, bool]]) -> str:
    """An option of a job, as the command has it."""
    if found[1]:
        return f"--set {found[2]}"
    return options[found[2]][0] if found[2] in options else found[2]


def _given(value: str) -> str:
    return _GIVEN.get(value, value)


def _written(option: str, takes_value: bool, value: str) -> str:
    if not takes_value:
        return option if value in ("True", "...") else f"no {option}"
    return f"{option} ..." if value == "..." else f"{option} {value.strip(chr(39) + chr(34))}"


def _options(parser: argparse.ArgumentParser) -> dict[str, tuple[str, bool]]:
    """Argument of the library to (option, whether it takes a value)."""
    found = {}
    for action in parser._actions:
        option = next((o for o in action.option_strings if o.startswith("--")), None)
        if option is not None and action.dest != "help":
            name = _OTHER_NAMES.get(action.dest, action.dest)
            found[name] = (option, action.nargs != 0)
    return found
