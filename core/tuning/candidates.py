"""What could be tried: every variant that the installed backends can make of a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

from core.architecture.kinds import EMBEDDING
from core.checkpoint.checkpoint import Checkpoint
from core.errors import BackendNotFound, OptionError
from core.machine.processor import processor_flags
from core.operations.backend_choice import loadable_file
from core.operations.file_choice import (
    find_artifacts,
    is_default,
    is_exportable,
    is_last_resort,
    is_reduced,
    preferred,
    stated_precision,
)
from core.plugin.capabilities import Capabilities
from core.plugin.known_backends import install_hint
from core.plugin.registry import registry


@dataclass(frozen=True)
class Candidate:
    """One way to run a model.

    Attributes:
        backend: Whose.
        operation: `"optimize"`, `"quantize"` or `"export"` where a file must be made; "" for one
            that is there, or that loading makes.
        config: The operation's configuration, or the precision of an export.
        file_name: A file that is there already.
        load_config: Name of one of the backend's `LOAD_CONFIGS`.
        options: The `model_kwargs` that it stands for.
        calibrated: Whether the configuration takes calibration texts.
    """

    backend: str
    operation: str = ""
    config: str = ""
    file_name: str | None = None
    load_config: str = ""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    calibrated: bool = False

    @property
    def name(self) -> str:
        """What reports call it, unlike any other of the same model: "onnx quantize avx2"."""
        words = [self.backend, self.operation, self.config, self.load_config, self.file_name or ""]
        named = " ".join(word for word in words if word)
        return f"{named} float32" if named == self.backend else named


def choose_backends(given: Iterable[str] | None) -> list[str]:
    """The backends to compare: those given, or every installed one that runs files.

    Raises:
        OptionError: `given` is not a list of names, or one of them runs no files.
        BackendNotFound: One is not installed, or none is.
    """
    if given is not None:
        names = list(given) if isinstance(given, list | tuple | set | frozenset) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise OptionError(f"backends must be a list of names, not {given!r}.")
        for name in names:
            # Its own error says what is wrong with it.
            if registry.backend(name).capabilities.source == "name":
                raise OptionError(
                    f"The {name} backend runs models by their names, and there are no files to "
                    "make variants of: leave it out."
                )
        return list(dict.fromkeys(names))
    found = [
        name
        for name, backend in registry.working()
        if backend.capabilities.source != "name" and EMBEDDING in backend.capabilities.kinds
    ]
    if not found:
        raise BackendNotFound(f"No backend is installed. {install_hint()}")
    return found


def base_candidates(source: Checkpoint, backends: Iterable[str]) -> list[Candidate]:
    """What `core.load` gives with each backend and nothing else.

    Raises:
        OptionError: Every one of them is int8, or has even fewer bits.
    """
    found = [_base(source, backend) for backend in backends]
    coarse = [
        candidate.file_name
        for candidate in found
        if candidate.file_name is not None
        and (stated_precision(source, candidate.file_name) or "").startswith("int")
    ]
    if coarse and not any(_has_float32(source, candidate) for candidate in found):
        raise OptionError(
            f"{source.name} has no weights in floating point, only {', '.join(coarse)}. What a "
            "variant loses is measured against float32: give the model that "
            f"{'this file was' if len(coarse) == 1 else 'these files were'} made from."
        )
    return found


def _base(source: Checkpoint, backend: str) -> Candidate:
    """What a backend loads; named by its file where that has fewer bits, for lack of any other."""
    capabilities, path = registry.backend(backend).capabilities, source.architecture.path
    files = find_artifacts(source.names, capabilities, path)
    usual = next(iter(preferred(source, capabilities, files, path)), None)
    if (
        usual is None
        or not is_last_resort(source, capabilities, usual, path)
        or is_exportable(source, capabilities, path)
    ):
        return Candidate(backend)
    return Candidate(backend, file_name=usual)


def _has_float32(source: Checkpoint, candidate: Candidate) -> bool:
    capabilities = registry.backend(candidate.backend).capabilities
    if candidate.file_name is not None:
        return not is_reduced(source, candidate.file_name)
    return (
        loadable_file(source, capabilities) is not None
        or source.architecture.is_static
        or is_exportable(source, capabilities, source.architecture.path)
    )


def other_candidates(source: Checkpoint, devices: Mapping[str, str]) -> list[Candidate]:
    """Everything else, the most promising of each backend first.

    Args:
        devices: Backend to the device its models are on.
    """
    columns = [list(_of_backend(source, backend, device)) for backend, device in devices.items()]
    rows = zip_longest(*columns)
    return [candidate for row in rows for candidate in row if candidate is not None]


def _of_backend(source: Checkpoint, backend: str, device: str) -> Iterator[Candidate]:
    entry = registry.backend(backend)
    capabilities = entry.capabilities
    if source.architecture.is_static:
        return  # a table of vectors: there is nothing to make of it
    quantize = list(capabilities.quantize_configs) if "quantize" in entry.hooks else []
    optimize = list(capabilities.optimize_configs) if "optimize" in entry.hooks else []
    made = [
        Candidate(backend, "quantize", config, calibrated=config in capabilities.calibrated_configs)
        for config in quantize
    ]
    loaded = [
        Candidate(backend, load_config=name, options=dict(options))
        for name, options in capabilities.load_configs.items()
    ]
    optimized = [Candidate(backend, "optimize", config) for config in optimize]
    # int8 gains most, then what needs no new file, then the rest.
    ordered = [*made[:1], *loaded, *optimized[:1], *made[1:], *optimized[1:]]
    named = {candidate.config for candidate in (*made, *optimized)}
    for candidate in ordered:
        if _pays(candidate.config or candidate.load_config, capabilities, device):
            # An operation and a configuration of the same name make the same thing twice.
            if candidate.operation == "quantize" and candidate.config in optimize:
                continue
            yield candidate
    if "export" in entry.hooks:
        for precision in capabilities.precisions[1:]:
            known = any(config.startswith(precision) for config in named)
            if not known and _pays(precision, capabilities, device):
                yield Candidate(backend, "export", precision)
    yield from _found(source, backend, capabilities)


def _found(source: Checkpoint, backend: str, capabilities: Capabilities) -> Iterator[Candidate]:
    """Files that somebody put into the model, beside the one that is loaded by default."""
    path = source.architecture.path
    usual = loadable_file(source, capabilities)
    for name in find_artifacts(source.names, capabilities, path):
        if name != usual and not is_default(name, capabilities, path):
            yield Candidate(backend, file_name=name)


def _pays(config: str, capabilities: Capabilities, device: str) -> bool:
    """Whether this machine has what a configuration needs to be worth trying."""
    needs = capabilities.needs.get(config)
    if needs is None:
        return True
    return not {device.partition(":")[0].lower(), *processor_flags()}.isdisjoint(needs)
