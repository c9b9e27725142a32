"""What `encode` is given: texts checked with their positions, streams cut into windows, the
prompt chosen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from core.errors import OptionError
from core.options import EncodeOptions

#: Texts, and characters, `encode_stream` holds at once.
STREAM_WINDOW = 8_192


_STREAM_CHARACTERS = 16_000_000


#: Iterable in part, but rows could not be told apart by position.
_NO_SEQUENCES = (Mapping, Set, bytes, bytearray, int, float)


def take_window(source: Iterator[str], window: int) -> list[str]:
    """The next `window` texts, or fewer once they hold `_STREAM_CHARACTERS`."""
    rows: list[str] = []
    characters = 0
    while len(rows) < window and characters < _STREAM_CHARACTERS:
        # In steps: counting each text as it comes would cost more than reading them.
        step = list(itertools.islice(source, min(64, window - len(rows))))
        if not step:
            break
        rows += step
        characters += sum(len(text) for text in step if isinstance(text, str))
    return rows


def check_stream(texts: Iterable[str], window: int, options: EncodeOptions) -> None:
    """Raise `OptionError` for what `encode_stream` cannot take."""
    if isinstance(texts, str):
        raise OptionError("encode_stream takes an iterable of texts, not one string.")
    if isinstance(texts, _NO_SEQUENCES) or not _is_iterable(texts):
        raise OptionError(
            f"encode_stream takes an iterable of texts, not {type(texts).__name__} {texts!r:.60}."
        )
    if not isinstance(window, int) or isinstance(window, bool) or window < 1:
        raise OptionError(f"window must be 1 or more, not {window!r}.")
    if options.precision in ("int8", "uint8"):
        raise OptionError(
            f"precision={options.precision!r} takes its ranges from all embeddings, which a "
            "stream does not have at once. Stream float32 and call "
            "core.quantize_embeddings(..., ranges=...)."
        )


def _is_iterable(texts: Any) -> bool:
    try:
        iter(texts)
    except TypeError:
        return False
    return True


def check_texts(texts: Any, start: int = 0) -> Sequence[str]:
    """`texts` as a sequence of strings.

    Raises:
        OptionError: No sequence of strings; the message names the first position that is none,
            counted from `start`.
    """
    if isinstance(texts, list | tuple):
        rows: Sequence[Any] = texts
    elif isinstance(texts, _NO_SEQUENCES) or texts is None:
        raise OptionError(
            f"encode takes a string or a sequence of strings, not {type(texts).__name__}."
        )
    else:
        try:
            rows = list(texts)  # numpy arrays, pandas series, generators
        except TypeError as error:
            raise OptionError(
                f"encode takes a string or a sequence of strings, not {type(texts).__name__} "
                f"{texts!r:.60}."
            ) from error
    # Both tests run at the interpreter's own speed; rows are looked at only when one fails.
    if not set(map(type, rows)) <= {str}:
        _refuse_other_than_text(rows, start)
        # numpy's strings and other subclasses: plain ones go to tokenizers and other processes.
        rows = [str.__str__(text) for text in rows]
    if not all(map(str.isascii, rows)):
        _refuse_surrogates(rows, start)
    return rows


def _refuse_other_than_text(rows: Sequence[Any], start: int) -> None:
    for position, text in enumerate(rows, start):
        if not isinstance(text, str):
            shown = repr(text)
            shown = shown if len(shown) <= 60 else shown[:60] + "..."
            raise OptionError(
                f"Input {position} is {type(text).__name__} {shown}, not a string. Convert or "
                'drop it; use "" for a missing text.'
            )


def _refuse_surrogates(rows: Sequence[str], start: int) -> None:
    """Half of a surrogate pair is no character: no tokenizer can read it."""
    for position, text in enumerate(rows, start):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise OptionError(
                    f"Input {position} has the lone surrogate {text[error.start]!r} at character "
                    f"{error.start}, which is no valid Unicode. It comes from reading bytes with "
                    "errors='surrogateescape' or from a broken JSON escape: decode the source as "
                    "what it is, or replace it with text.encode(errors='replace').decode()."
                ) from error


def choose_prompt(
    options: EncodeOptions, prompts: Mapping[str, str], default_name: str | None
) -> str:
    """Given prompt, then prompt name, then the default of the model's `prompts`, then none."""
    if options.prompt is not None:
        return options.prompt
    name = options.prompt_name if options.prompt_name is not None else default_name
    if name is None:
        return ""
    if not isinstance(name, str):
        raise OptionError(f"default_prompt_name must be a string or None, not {name!r}.")
    if name not in prompts:
        listed = ", ".join(map(repr, sorted(prompts))) or "none"
        raise OptionError(
            f"The model has no prompt named {name!r}; it has {listed}. Pass the text itself with "
            "prompt=..., or name it at load: prompts={...}."
        )
    return prompts[name]
