"""Commands that distributions add through `core.commands`."""

from __future__ import annotations

import sys

import pytest

from core.cli import main
from tests.plugins.conftest import Site

GREET = """
import core

def greet(parser):
    parser.add_argument("name")
    parser.add_argument("--fail", choices=["option", "core", "code"])
    return run

def run(parsed):
    if parsed.fail == "option":
        raise core.OptionError("that name is taken.")
    if parsed.fail == "core":
        raise core.CoreError("nobody is there.")
    print(f"Hello {parsed.name}")
    return 3 if parsed.fail == "code" else None
"""


def add(
    site: Site, distribution: str, source: str, name: str = "greet", attribute: str = "greet"
) -> str:
    module = distribution.replace("-", "_")
    entry_points = f"[core.commands]\n{name} = {module}:{attribute}\n"
    return site.install(distribution, source, entry_points=entry_points)


def test_a_command_runs_with_its_arguments(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    add(site, "core-greet", GREET)
    assert main(["greet", "Ada"]) == 0
    assert capsys.readouterr().out == "Hello Ada\n"
    assert main(["greet", "Ada", "--fail", "code"]) == 3


def test_it_is_listed_and_not_imported(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    module = add(site, "core-greet", GREET)
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert "greet" in listed
    assert "from core-greet 1.0" in listed
    assert main(["backends"]) == 0
    assert module not in sys.modules


def test_its_own_help_and_usage(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    add(site, "core-greet", GREET)
    assert main(["greet", "--help"]) == 0
    assert "--fail" in capsys.readouterr().out
    assert main(["greet", "Ada", "--fial", "core"]) == 2
    assert "did you mean --fail" in capsys.readouterr().err


@pytest.mark.parametrize(("fail", "code"), [("option", 2), ("core", 1)])
def test_errors_are_one_line(
    site: Site, capsys: pytest.CaptureFixture[str], fail: str, code: int
) -> None:
    add(site, "core-greet", GREET)
    assert main(["greet", "Ada", "--fail", fail]) == code
    error = capsys.readouterr().err
    assert error.startswith("core greet: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise ImportError('no uvicorn')", "importing it raised ImportError: no uvicorn"),
        ("greet = 5", "it must be a function"),
        ("raise SystemExit(0)", "importing it raised SystemExit: 0"),
        ("def greet(): ...", "adding its arguments raised TypeError: greet() takes 0 positional"),
    ],
)
def test_a_broken_one_is_blamed(
    site: Site, capsys: pytest.CaptureFixture[str], source: str, why: str
) -> None:
    add(site, "core-greet", source)
    assert main(["greet", "Ada"]) == 1
    error = capsys.readouterr().err
    assert why in error
    assert (
        "Command 'greet' (entry point 'core_greet:greet' of distribution core-greet 1.0)" in error
    )
    assert main(["backends"]) == 0  # the other commands work


def test_one_that_returns_nothing_is_blamed(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    add(site, "core-greet", "def greet(parser): parser.add_argument('name')")
    assert main(["greet", "Ada"]) != 0
    assert "returned NoneType, not the function that runs it" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--name", "encode"], ["--parser", "a"], ["--command", "b"]])
def test_its_arguments_may_have_any_name(
    site: Site, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    lines = [
        "import core",
        "def greet(parser):",
        f"    parser.add_argument({words[0]!r}, dest={words[0][2:]!r})",
        "    return run",
        "def run(parsed):",
        f"    raise core.CoreError('called with ' + parsed.{words[0][2:]})",
    ]
    add(site, "core-greet", "\n".join(lines))
    assert main(["greet", *words]) == 1
    assert capsys.readouterr().err == f"core greet: called with {words[1]}\n"


def test_what_it_exits_with_is_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    add(site, "core-greet", "import sys\ndef greet(parser): return lambda _: sys.exit('No one.')")
    assert main(["greet"]) == 1
    assert capsys.readouterr().err == "No one.\n"


def test_two_claims_are_refused(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    add(site, "core-greet", GREET)
    add(site, "other-greet", GREET)
    assert main(["greet", "Ada"]) == 1
    assert "claimed by 2 distributions" in capsys.readouterr().err


def test_core_keeps_its_own_commands(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    module = add(site, "core-greet", GREET, name="backends")
    assert main(["backends"]) == 0
    assert "BACKEND" in capsys.readouterr().out
    assert module not in sys.modules


def test_it_can_be_switched_off(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(site, "core-greet", GREET)
    monkeypatch.setenv("CORE_DISABLE_PLUGINS", "greet")
    assert main(["greet", "Ada"]) == 2
    assert "there is no command 'greet'" in capsys.readouterr().err


def test_a_misspelled_command_is_told_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["encod", "model", "text"]) == 2
    assert "Did you mean `core encode`?" in capsys.readouterr().err


def test_core_alone_shows_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "backends" in capsys.readouterr().out


@pytest.mark.parametrize("operation", ["optimize", "quantize"])
def test_help_lists_every_configuration(operation: str, capsys: pytest.CaptureFixture[str]) -> None:
    import core

    assert main([operation, "--help"]) == 0
    listed = capsys.readouterr().out
    for name in ("torch", "onnx", "openvino"):
        configs = getattr(core.hooks(name).capabilities, f"{operation}_configs")
        assert configs
        for config, explanation in configs.items():
            assert f"  {config} " in listed
            assert explanation in listed
