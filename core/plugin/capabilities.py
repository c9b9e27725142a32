"""What a backend says of itself in plain attributes, readable without its runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from core.architecture.kinds import EMBEDDING, KINDS
from core.options import DENSE, OUTPUTS

#: Values of `SOURCE`.
SOURCES = ("checkpoint", "name")

#: A plugin without `SPEC_VERSION` was written for the first one.
UNSTATED_SPEC_VERSION = 1


@dataclass(frozen=True)
class Capabilities:
    """What a backend says of itself.

    Each attribute is read from the plugin under its upper-case name (`DEVICES`, ...).

    Attributes:
        spec_version: The hook specifications it was written for.
        devices: Names its `device` argument takes.
        precisions: Names its export and quantize know.
        file_names: The files it loads by default, first choice first; empty for a backend that
            needs no file of its own.
        fallback_names: Files of other backends that it loads as well, first choice first: used
            where it has none of its own and none can be exported.
        files: Pattern (`onnx/*.onnx`; `*` stays within a folder) of every file it loads, to the
            patterns of its companions: files of the same folder that belong to it, `{file}` being
            its name and `{stem}` its name without the ending.
        file_patterns: The patterns alone; a backend whose files have no companions may state these
            instead of `files`.
        model_kwargs: Names its `model_kwargs` takes.
        exports_from: The backend whose models its export starts from; None if it has no such
            export.
        auto_export: Whether `load` may export when the file is missing.
        artifact_folder: Where its artifacts lie in a model directory ("" for the top).
        optimize_configs: Name of each configuration that `optimize` takes, to a line that
            explains it; the backend's default first.
        quantize_configs: The same for `quantize`.
        calibrated_configs: Those of `quantize_configs` that take calibration texts.
        load_configs: Name of each way to load the float32 file that makes it compute differently,
            to its `model_kwargs`.
        needs: Name of a configuration of any kind, to what a machine must have for it to pay: any
            one of these flags of the processor or of `devices`. One that is not named pays
            anywhere.
        kinds: Which kinds of model it runs: `"embedding"`, `"reranker"`, `"sparse"`,
            `"multi_vector"`.
        outputs: Which kinds of embeddings its `encode` gives in one pass, for models with heads
            for them: `"dense"`, `"sparse"`, `"multi_vector"`.
        source: `"checkpoint"`, or `"name"` for backends whose models are not files (a server's).
    """

    spec_version: int = UNSTATED_SPEC_VERSION
    devices: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ("fp32",)
    file_names: tuple[str, ...] = ()
    fallback_names: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    file_patterns: tuple[str, ...] = ()
    model_kwargs: tuple[str, ...] = ()
    exports_from: str | None = None
    auto_export: bool = False
    artifact_folder: str = ""
    optimize_configs: Mapping[str, str] = field(default_factory=dict)
    quantize_configs: Mapping[str, str] = field(default_factory=dict)
    calibrated_configs: tuple[str, ...] = ()
    load_configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: tuple[str, ...] = (EMBEDDING,)
    outputs: tuple[str, ...] = (DENSE,)
    source: str = "checkpoint"


def read_capabilities(implementation: Any) -> Capabilities:
    """The capabilities a plugin states.

    Raises:
        ValueError: An attribute has another type than it should; the message names it.
    """
    defaults = Capabilities()
    stated: dict[str, Any] = {}
    for field_ in fields(Capabilities):
        attribute = field_.name.upper()
        if hasattr(implementation, attribute):
            value = getattr(implementation, attribute)
            stated[field_.name] = _checked(attribute, value, getattr(defaults, field_.name))
    files = stated.get("files", {})
    stated["files"] = {**dict.fromkeys(stated.get("file_patterns", ()), ()), **files}
    stated["file_patterns"] = tuple(stated["files"])
    capabilities = Capabilities(**stated)
    if capabilities.source not in SOURCES:
        raise ValueError(f"its SOURCE must be 'checkpoint' or 'name', not {capabilities.source!r}")
    unknown = [kind for kind in capabilities.kinds if kind not in KINDS]
    if unknown or not capabilities.kinds:
        raise ValueError(f"its KINDS must be some of {', '.join(KINDS)}, not {unknown!r}")
    other = [name for name in capabilities.outputs if name not in OUTPUTS]
    if other or DENSE not in capabilities.outputs:
        raise ValueError(
            f"its OUTPUTS must be {DENSE!r} and others of {', '.join(OUTPUTS)}, not "
            f"{capabilities.outputs!r}"
        )
    return capabilities


def _checked(attribute: str, value: Any, default: Any) -> Any:
    if isinstance(default, Mapping):
        return _checked_mapping(attribute, value)
    if isinstance(default, tuple):
        if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
            raise ValueError(f"its {attribute} must be a tuple of strings, not {value!r}")
        return tuple(value)
    # EXPORTS_FROM is the one that may be None.
    expected = (str, type(None)) if default is None else (type(default),)
    if type(value) not in expected:
        kind = {int: "an integer", bool: "True or False"}.get(type(default), "a string")
        raise ValueError(f"its {attribute} must be {kind}, not {value!r}")
    return value


#: What the values of a mapping are, where they are not strings.
_INNER: Mapping[str, Any] = {"FILES": (), "NEEDS": (), "LOAD_CONFIGS": {}}


def _checked_mapping(attribute: str, value: Any) -> Any:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"its {attribute} must be a mapping with strings as keys, not {value!r}")
    if attribute.startswith("LOAD_CONFIGS["):  # model_kwargs hold what the backend takes
        return dict(value)
    inner: Any = _INNER.get(attribute, "")
    return {name: _checked(f"{attribute}[{name!r}]", given, inner) for name, given in value.items()}
