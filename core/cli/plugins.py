"""What `core backends --verbose` says of each plugin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from core.plugin.status import BackendStatus, PluginStatus


def describe(backends: Mapping[str, BackendStatus], plugins: Mapping[str, PluginStatus]) -> str:
    """A paragraph for each backend and each wrapping plugin."""
    paragraphs = [
        *("\n".join(_backend(status)) for status in backends.values()),
        *("\n".join(_plugin(status, "plugin")) for status in plugins.values()),
    ]
    return "\n\n".join(paragraphs)


def _plugin(status: PluginStatus, kind: str) -> Iterator[str]:
    yield f"{kind} {status.name}: {status.status}"
    yield from _lines(
        {
            "error": status.error,
            "distribution": status.distribution or "registered in code",
            "entry point": status.entry_point,
            "file": status.file,
            "hooks": ", ".join(status.hooks),
        }
    )


def _backend(status: BackendStatus) -> Iterator[str]:
    yield from _plugin(status, "backend")
    if status.status != "ok":
        return
    yield from _lines({"wrappers": ", ".join(status.wrappers) or "none"})
    for hook, names in status.calls.items():
        if len(names) > 1:
            yield from _lines({f"{hook} calls": " > ".join(names)})
    capabilities = status.capabilities
    for name, value in asdict(capabilities).items():
        if not isinstance(value, Mapping):
            shown = ", ".join(value) if isinstance(value, tuple) else str(value)
            yield from _lines({name.replace("_", " "): "" if value is None else shown})
    for title, configs in (
        ("optimize to", capabilities.optimize_configs),
        ("quantize to", capabilities.quantize_configs),
    ):
        for name, explanation in configs.items():
            yield from _lines({title: f"{name:12} {explanation}"})


def _lines(values: Mapping[str, str]) -> Iterator[str]:
    for name, value in values.items():
        if value:
            yield f"  {name:16} {value}"
