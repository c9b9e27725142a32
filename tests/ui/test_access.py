"""Who may talk to the server, over the real application."""

from __future__ import annotations

import argparse
import asyncio
import base64
import socket
from pathlib import Path
from typing import Any

import pytest

from core.errors import OptionError
from core_ui.access import Guard, browser_of, is_loopback, read_auth
from core_ui.command import ui
from tests.ui.serving import Served, command


def test_the_page_names_no_other_host_and_each_browser(server: Served) -> None:
    answer = server.ask("/")
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly; SameSite=Strict" in cookie
    assert len(browser_of(cookie, server.cookie) or "") >= 32
    again = server.ask("/", {"Cookie": cookie.partition(";")[0]})
    assert "set-cookie" not in again.headers  # it has its name now
    assert server.ask("/").headers["set-cookie"] != cookie
    assert "fonts.g" not in answer.text
    config = server.ask("/config").json()
    assert config["analytics_enabled"] is False
    assert config["run_history"] is False  # it would keep tokens in the browser


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example:7860"},  # a name that was let point here
        {"Host": ""},
        {"Host": "[bad"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://[bad"},
    ],
)
def test_other_sites_are_refused(server: Served, headers: dict[str, str]) -> None:
    assert server.ask("/config", headers).status == 403
    assert server.ask("/gradio_api/queue/join", headers, body={}).status == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_this_machine_is_let_in(server: Served, host: str) -> None:
    name = f"{host}:{server.port}"
    assert server.ask("/config", {"Host": name}).status == 200
    assert server.ask("/config", {"Host": name, "Origin": f"http://{name}"}).status == 200


def test_files_of_the_machine_are_not_served(server: Served, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    inside = server.root / "tiny" / "config.json"
    for path in (secret, inside, Path(__file__), Path("/etc/passwd")):
        assert server.ask(f"/gradio_api/file={path}").status in (403, 404)


def test_uploads_have_a_limit(server: Served) -> None:
    assert server.upload(b"text").status == 200
    assert server.upload(b"x" * 6_000_000).status == 413


def test_a_path_that_was_not_uploaded_is_not_read(server: Served, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("theirs")
    uploaded = server.upload(b"mine").json()[0]
    for path, seen in ((uploaded, True), (str(elsewhere), False)):
        said = shown_of(server, path, f"forged{seen}")
        assert ("mine" in said) == seen
        assert "theirs" not in said


def test_an_upload_is_shown_without_its_byte_order_mark(server: Served) -> None:
    uploaded = server.upload("\ufeffone\r\ntwo".encode()).json()[0]
    said = shown_of(server, uploaded, "mark")
    assert "one\\ntwo" in said
    assert "\ufeff" not in said


def shown_of(server: Served, path: str, session: str) -> str:
    """What the page is told when it has uploaded a file of texts."""
    number = next(
        event["id"]
        for event in server.ask("/config").json()["dependencies"]
        if any(name == "upload" for _, name in event["targets"])
    )
    data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
    asked = {"data": data, "fn_index": number, "session_hash": session}
    assert server.ask("/gradio_api/queue/join", body=asked).status == 200
    return server.ask(f"/gradio_api/queue/data?session_hash={session}").text


def test_a_browser_without_cookies_is_told_so(server: Served) -> None:
    number = next(
        event["id"]
        for event in server.ask("/config").json()["dependencies"]
        if not event["queue"] and any(name == "load" for _, name in event["targets"])
    )
    asked = {"data": [], "fn_index": number, "session_hash": "nameless"}
    answer = server.ask("/gradio_api/run/predict", body=asked)
    assert "keeps no cookies for this page: allow them, and reload" in answer.text


def guarded(headers: dict[str, str], **arguments: Any) -> tuple[int, bool]:
    """Status of a request, and whether the application saw it."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Any:
        return {}

    guard = Guard(app, cookie="name", **arguments)
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(guard({"type": "http", "headers": raw}, receive, send))
    return statuses[0], bool(seen)


def basic(given: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(given.encode()).decode()}"}


def test_user_and_password_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core_ui.access._WRONG_PASSWORD_SECONDS", 0)
    named = {"Host": "machine.example"}
    for wrong in (
        {},
        basic("me:other"),
        basic("me"),
        {"Authorization": "Basic ???"},
        {"Authorization": "x"},
    ):
        answer = guarded({**named, **wrong}, host="0.0.0.0", auth=("me", "s\u00e9:cret"))
        assert answer == (401, False)
    right = {**named, **basic("me:s\u00e9:cret")}
    assert guarded(right, host="0.0.0.0", auth=("me", "s\u00e9:cret")) == (200, True)
    crossed = {**right, "Origin": "http://evil.example"}
    assert guarded(crossed, host="0.0.0.0", auth=("me", "s\u00e9:cret")) == (403, False)


def test_a_websocket_is_refused() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "headers": [(b"host", b"127.0.0.1")]}
    guard = Guard(_unreachable, host="127.0.0.1", cookie="core-ui")
    asyncio.run(guard(scope, _unreachable, send))
    assert sent == [{"type": "websocket.close"}]


async def _unreachable(*arguments: Any) -> Any:
    raise AssertionError("it was asked")


def test_loopback_addresses() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.2", "example.org", "")))


def test_other_addresses_demand_a_password() -> None:
    assert read_auth("127.0.0.1", None) is None
    assert read_auth("0.0.0.0", "me:se:cret") == ("me", "se:cret")
    with pytest.raises(OptionError, match="pass --auth USER:PASSWORD"):
        read_auth("0.0.0.0", None)
    for wrong in ("me", "me:", ":secret", ""):
        with pytest.raises(OptionError, match="--auth takes"):
            read_auth("127.0.0.1", wrong)
    with pytest.raises(OptionError, match="not UTF-8"):
        read_auth("127.0.0.1", "me:se\udccecret")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "--auth USER:PASSWORD"),
        (["--model", "../elsewhere"], "outside of what this page may use"),
        (["--root", "absent"], "absent is not a directory"),
        (["--port", "70000"], "from 0 to 65535"),
    ],
)
def test_the_command_refuses_before_it_serves(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = argparse.ArgumentParser()
    run = ui(parser)
    with pytest.raises(OptionError, match=says):
        run(parser.parse_args(words))


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = command(tmp_path, "--port", str(port))
    assert code == 1
    assert f"port {port}: Address already in use. Choose another" in said
