"""Pairs put into a chat template, as transformers' `apply_chat_template` does it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.architecture.architecture import Architecture
from core.architecture.chat_template import ChatTemplate
from core.errors import ModelFormatError, UnsupportedOperation
from core.files.source import Source
from core.tokenizer.settings import SPECIAL_TOKENS, read_settings

#: Two pairs of which no token but the template's own is the same at the end.
_PROBES = (("0", "0"), ("1 2 3 4", "1 2 3 4"))


class PairTemplate:
    """Makes one text of a query, a document and a prompt.

    Args:
        source: The checkpoint, for messages.
        template: As the checkpoint's files have it.
        tokens: Name to text of the special tokens that a template may use.
    """

    def __init__(self, source: Source, template: ChatTemplate, tokens: Mapping[str, str]) -> None:
        self._shown = str(source)
        self._template = template
        self._tokens = dict(tokens)
        self._compiled = _compile(self._shown, template.text)
        self._check()

    def render(self, query: str, document: str, prompt: str = "") -> str:
        """The text of a pair.

        Raises:
            ModelFormatError: The template fails.
        """
        messages = [("query", query), ("document", document)]
        if prompt:
            messages.insert(0, ("system", prompt))
        arguments: dict[str, Any] = {"add_generation_prompt": False, **self._template.arguments}
        arguments.pop("restore_suffix", None)
        try:
            text: str = self._compiled.render(
                messages=[
                    {"role": role, "content": self._content(text)} for role, text in messages
                ],
                tools=None,
                documents=None,
                **{**self._tokens, **arguments},
            )
        except Exception as error:  # a template is code: it raises what it likes
            raise ModelFormatError(
                f"{self._shown}: its chat template fails on a pair of texts ({error}). Restore or "
                "download the tokenizer's files again."
            ) from error
        return text

    @property
    def probes(self) -> Sequence[str]:
        """The texts of two pairs that have nothing but the template in common."""
        return [self.render(query, document) for query, document in _PROBES]

    @property
    def keeps_end(self) -> bool:
        """Whether what the template puts at the end stays when a text is cut."""
        return self._template.arguments.get("restore_suffix") is not False

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self._template.structured else text

    def _check(self) -> None:
        """Raise `ModelFormatError` for a template that leaves a text out."""
        first = self.render("alpha", "bravo")
        for role, other in (
            ("query", self.render("charlie", "bravo")),
            ("document", self.render("alpha", "foxtrot")),
        ):
            if first == other:
                raise ModelFormatError(
                    f"{self._shown}: its chat template leaves out the {role}: it has no place for "
                    f"a message of the role {role!r}. Use the template of the reranker, not that "
                    "of the language model it was made from."
                )


def read_template(source: Source, architecture: Architecture) -> PairTemplate | None:
    """The template that a checkpoint's pairs are put into; None for none.

    Raises:
        UnsupportedOperation: jinja2 is not installed.
    """
    template = architecture.chat_template
    if template is None:
        return None
    settings = read_settings(source, architecture)
    tokens = {}
    for name in SPECIAL_TOKENS:
        value = settings.get(name)
        content = value.get("content") if isinstance(value, Mapping) else value
        if isinstance(content, str):
            tokens[name] = content
    return PairTemplate(source, template, tokens)


def _compile(shown: str, text: str) -> Any:
    try:
        import jinja2.ext
        import jinja2.sandbox
    except ImportError as error:
        raise UnsupportedOperation(
            f"{shown} puts its pairs into a chat template, which needs jinja2: "
            "`pip install core[chat]`, or `pip install jinja2`."
        ) from error

    def fail(message: str) -> str:
        raise jinja2.exceptions.TemplateError(message)

    # The sandbox and its settings are those of transformers: a template is code of the model's.
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **options: json.dumps(
        value, ensure_ascii=False, **options
    )
    environment.globals["raise_exception"] = fail
    try:
        return environment.from_string(text)
    except (jinja2.exceptions.TemplateError, RecursionError) as error:
        raise ModelFormatError(
            f"{shown}: its chat template is not a Jinja template ({error}). Restore or download "
            "the tokenizer's files again."
        ) from error
