"""Requests of every kind of wrong: bodies by hypothesis, and bytes on bare sockets.

`python -m scripts.fuzz_server --requests 5000` sends many; the suite sends few.
"""

from __future__ import annotations

import json
import random
import socket
from typing import Any

import httpx
from hypothesis import strategies as st

from core_server.routes import OPERATIONS

#: Paths that take a body.
PATHS = [path for operation in OPERATIONS if operation.body for path in operation.paths]
#: What the fields of all routes are called.
FIELDS = sorted(
    {
        name
        for operation in OPERATIONS
        if operation.body
        for name in operation.body.__struct_fields__  # type: ignore[attr-defined]
    }
)
#: What an answer may be: anything but an error of the server's own.
STATUSES = {200, 400, 404, 405, 408, 413, 422, 424, 429}

_TEXTS = st.text(max_size=40) | st.sampled_from(["\0", "\ud800", "a" * 5_000, "é" * 300, ""])
_NUMBERS = st.integers() | st.floats() | st.sampled_from([10**30, -1, 0, 2**63, 1e308])
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)
_BODIES = st.dictionaries(st.sampled_from(FIELDS), _VALUES, max_size=6).map(_json := json.dumps)
_LIKELY_FIELDS = ("inputs", "input", "query", "texts", "documents", "ids")
_LIKELY = st.fixed_dictionaries(
    {
        "inputs": _TEXTS | st.lists(_TEXTS, max_size=5) | st.lists(st.integers(), max_size=5),
        "input": _TEXTS | st.lists(_TEXTS, max_size=5),
        "query": _TEXTS,
        "texts": st.lists(_TEXTS, max_size=5),
        "documents": st.lists(_TEXTS, max_size=5),
        "ids": st.lists(st.integers(-5, 500), max_size=5),
    },
    optional={name: _VALUES for name in FIELDS if name not in _LIKELY_FIELDS},
).map(_json)
_HUGE = st.sampled_from(
    [
        '{"inputs": ' + json.dumps(["a"] * 3_000) + "}",
        '{"ids": ' + json.dumps([[1] * 20] * 2_000) + "}",
        '{"inputs": "' + "a" * 9_000_000 + '"}',
        "[" * 50_000,
    ]
)

_CHUNKED = b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

#: (path, body) of one request. Huge ones are rare: they are slow to send.
REQUESTS = st.tuples(
    st.sampled_from(PATHS),
    st.one_of(
        *[_BODIES.map(str.encode)] * 3,
        *[_LIKELY.map(str.encode)] * 4,
        st.binary(max_size=60),
        _BODIES.map(lambda text: text.encode()[: len(text) // 2]),
    ),
)
HUGE_REQUESTS = st.tuples(st.sampled_from(PATHS), _HUGE.map(str.encode))


def check(answer: httpx.Response) -> None:
    """Raise `AssertionError` unless it is an answer as it should be."""
    shown = f"{answer.request.url.path} {answer.request.content[:200]!r}: {answer.status_code}"
    assert answer.status_code in STATUSES, f"{shown} {answer.text[:500]}"
    assert "Traceback" not in answer.text, shown
    assert 'File "' not in answer.text, shown
    if answer.status_code != 200:
        assert {"error", "message"} & set(answer.json()), shown


def broken_connection(port: int, draws: random.Random) -> None:
    """A request that breaks off somewhere: sent in pieces, half closed, or reset."""
    body = b'{"inputs": ["one text", "another"]}'
    head = f"POST {draws.choice(PATHS)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    message = draws.choice(
        [
            head.encode() + body,
            head.encode().replace(b"Content-Length", b"Content-Lenght") + body,
            head.encode().replace(b"HTTP/1.1", b"HTTP/9.9") + body,
            draws.randbytes(200),
            _CHUNKED + b'5\r\n{"inp\r\nzz',
        ]
    )
    end = draws.randrange(1, len(message) + 1)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        try:
            for start in range(0, end, 64):
                connection.sendall(message[start : min(start + 64, end)])
            if draws.random() < 0.5:
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65_536):
                    pass
        except (ConnectionError, BrokenPipeError):
            pass  # the server had enough
