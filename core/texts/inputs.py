"""What `encode` is given: texts checked with their positions, streams cut into windows, the
prompt chosen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from numbers import Integral
from typing import Any

from core.errors import OptionError
from core.options import EncodeOptions

#: Texts, and characters, `encode_stream` holds at once.
STREAM_WINDOW = 8_192

#: Names of a prompt for queries, and of one for what they find, first choice first.
QUERY_PROMPTS = ("query",)

DOCUMENT_PROMPTS = ("document", "passage", "corpus")

_STREAM_CHARACTERS = 16_000_000

#: Iterable in part, but rows could not be told apart by position.
_NO_SEQUENCES = (Mapping, Set, bytes, bytearray, memoryview, int, float)

_SHOWN_COLUMNS = 5

_SURROGATE_ADVICE = (
    "It comes from reading bytes with errors='surrogateescape' or from a broken JSON escape: "
    "decode the source as what it is, or replace it with text.encode(errors='replace').decode()."
)

_ENCODE_TAKES = "encode takes a string or a sequence of strings"


def take_window(source: Iterator[Any], window: int) -> list[Any]:
    """The next `window` texts or pairs, or fewer once they hold `_STREAM_CHARACTERS`."""
    rows: list[Any] = []
    characters = 0
    while len(rows) < window and characters < _STREAM_CHARACTERS:
        # In steps: counting each text as it comes would cost more than reading them.
        step = list(itertools.islice(source, min(64, window - len(rows))))
        if not step:
            break
        rows += step
        characters += sum(map(_characters, step))
    return rows


def _characters(row: Any) -> int:
    if isinstance(row, str):
        return len(row)
    if isinstance(row, list | tuple):
        return sum(len(text) for text in row if isinstance(text, str))
    return 0


def check_stream(
    texts: Iterable[Any], window: Any, options: EncodeOptions, method: str = "encode"
) -> None:
    """Raise `OptionError` for what `encode_stream` or `predict_stream` cannot take."""
    what = "texts" if method == "encode" else "pairs of texts"
    takes = f"{method}_stream takes an iterable of {what}"
    if isinstance(texts, str):
        raise OptionError(f"{takes}, not one string.")
    refuse_containers(texts, takes)
    if not _is_iterable(texts):
        raise OptionError(f"{takes}, not {type(texts).__name__} {texts!r:.60}.")
    if isinstance(window, bool) or not isinstance(window, Integral):  # numpy's are Integral, too
        raise OptionError(f"window must be a positive integer, not {window!r}.")
    if window < 1:
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


def check_texts(texts: Any, start: int = 0, takes: str = _ENCODE_TAKES) -> Sequence[str]:
    """`texts` as a sequence of strings.

    Args:
        takes: What is called and what it takes, for messages.

    Raises:
        OptionError: Not a sequence of strings; the message names the first position that is not
            a string, counted from `start`.
    """
    if isinstance(texts, list | tuple):
        rows: Sequence[Any] = texts
    else:
        refuse_containers(texts, takes)
        try:
            rows = list(texts)  # numpy arrays, pandas series, generators
        except TypeError as error:
            raise OptionError(f"{takes}, not {type(texts).__name__}.") from error
    # Both tests run at the interpreter's own speed; rows are looked at only when one fails.
    if not set(map(type, rows)) <= {str}:
        _refuse_other_than_text(rows, start)
        # numpy's strings and other subclasses: plain ones go to tokenizers and other processes.
        rows = [str.__str__(text) for text in rows]
    if not all(map(str.isascii, rows)):
        _refuse_surrogates(rows, start)
    return rows


def refuse_containers(texts: Any, takes: str = _ENCODE_TAKES, *, pairs: bool = False) -> None:
    """Raise `OptionError` for what is iterable, but gives something other than its texts.

    Tables and mappings give the names of their columns and keys, which are strings, too.

    Args:
        pairs: Whether pairs of texts are wanted: two columns of a table.
    """
    if isinstance(texts, _NO_SEQUENCES) or texts is None:
        raise OptionError(f"{takes}, not {type(texts).__name__}.")
    kind = type(texts).__name__
    columns = _columns(texts)
    if columns is not None:
        shown = ", ".join(map(repr, columns[:_SHOWN_COLUMNS]))
        more = ", ..." if len(columns) > _SHOWN_COLUMNS else ""
        column = "text" if "text" in columns or not columns else columns[0]
        name, as_list = _spelling(texts)
        advice = f"Pass one of them: {name}[{column!r}]{as_list}."
        if pairs:
            sides = ", ".join(f"{name}[{side!r}]{as_list}" for side in columns[:2])
            advice = "Pass two of them" + (f": list(zip({sides}))." if columns[1:] else ".")
        raise OptionError(
            f"{takes}, not a table: this {kind} has the columns {shown or '(none)'}{more}. {advice}"
        )
    sizes = getattr(texts, "shape", None)
    if isinstance(sizes, tuple) and len(sizes) != 1:
        advice = "array.item() is its text" if not sizes else "pass one column, as array[:, 0]"
        raise OptionError(
            f"{takes}, not an array with {len(sizes)} "
            f"dimensions: this {kind} has the shape {list(sizes)}; {advice}."
        )
    keys = getattr(texts, "keys", None)
    if callable(keys) and not hasattr(texts, "dtype") and _gives_keys(texts, keys):
        raise OptionError(f"{takes}, not {kind}, which gives its keys. Pass its values as a list.")


def _columns(texts: Any) -> list[Any] | None:
    """Names of the columns of a table of pandas, polars, Arrow, datasets, ...; None for others."""
    for attribute in ("column_names", "columns"):
        found = getattr(texts, attribute, None)
        if found is not None and not callable(found) and not isinstance(found, str):
            try:
                return [str(name) for name in found]
            except TypeError:
                continue
    return None


def _spelling(table: Any) -> tuple[str, str]:
    """How the table's library calls such a table, and turns a column into a list."""
    if hasattr(table, "iloc"):
        return "df", ".tolist()"
    if hasattr(table, "to_pylist"):  # Arrow
        return "table", ".to_pylist()"
    return "table", ".to_list()" if hasattr(table, "lazy") else ""  # polars; datasets


def _gives_keys(texts: Any, keys: Any) -> bool:
    try:
        names = list(keys())
        return bool(names) and names == list(texts)
    except Exception:  # an object of its own kind: its rows are looked at next
        return False


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
    """Half of a surrogate pair is not a character: no tokenizer can read it."""
    for position, text in enumerate(rows, start):
        if found := lone_surrogate(text):
            raise OptionError(f"Input {position} {found}. {_SURROGATE_ADVICE}")


def lone_surrogate(text: str) -> str:
    """What is wrong with a text that no tokenizer can read, for a message; "" for nothing."""
    if text.isascii():
        return ""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return (
            f"has the lone surrogate {text[error.start]!r} at character {error.start}, which is "
            "not valid Unicode"
        )
    return ""


def choose_prompt(
    options: EncodeOptions, prompts: Mapping[str, str], default_name: str | None
) -> str:
    """Given prompt, then prompt name, then the default of the model's `prompts`, then none.

    Raises:
        OptionError: The model has no prompt of that name, or both are given.
    """
    if options.prompt is not None and options.prompt_name is not None:
        raise OptionError(
            f"prompt={options.prompt!r} and prompt_name={options.prompt_name!r} are two prompts "
            "for the same texts: pass one of them."
        )
    if options.prompt is not None:
        return _checked_prompt(options.prompt, "prompt")
    name = options.prompt_name if options.prompt_name is not None else default_name
    if name is None:
        return ""
    if not isinstance(name, str) or name not in prompts:
        listed = ", ".join(map(repr, sorted(prompts))) or "none"
        raise OptionError(
            f"The model has no prompt named {name!r}; it has {listed}. Pass the text itself with "
            "prompt=..., or name it at load: prompts={...}."
        )
    return _checked_prompt(prompts[name], f"The model's prompt {name!r}")


def _checked_prompt(prompt: Any, what: str) -> str:
    if not isinstance(prompt, str):  # `model.prompts` can be changed in place
        raise OptionError(f"{what} must be a string, not {prompt!r:.60}.")
    if found := lone_surrogate(prompt):
        raise OptionError(f"{what} {found}. {_SURROGATE_ADVICE}")
    return prompt
