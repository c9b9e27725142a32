"""Which ONNX Runtime is installed, and which execution provider runs a model."""

from __future__ import annotations

import importlib.metadata
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from core.errors import BackendLoadError, OptionError
from core.toolkit import suggestion

logger = logging.getLogger("core")

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

#: Provider to the device its models report; those with an index take "name:1" as well.
DEVICE_NAMES = {
    CPU: "cpu",
    CUDA: "cuda",
    "TensorrtExecutionProvider": "tensorrt",
    "DmlExecutionProvider": "dml",
    "CoreMLExecutionProvider": "coreml",
    "ROCMExecutionProvider": "rocm",
    "MIGraphXExecutionProvider": "migraphx",
    "OpenVINOExecutionProvider": "openvino",
}
_INDEXED = ("cuda", "tensorrt", "dml", "rocm", "migraphx")
#: Providers whose memory is CUDA's, so that outputs can stay there.
CUDA_MEMORY = (CUDA, "TensorrtExecutionProvider")
#: Distributions that own the module `onnxruntime`.
DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
    "onnxruntime-migraphx",
    "onnxruntime-qnn",
)
_INSTALL = {
    CUDA: "pip install core[onnx-gpu]",
    "TensorrtExecutionProvider": "pip install core[onnx-gpu]",
    "DmlExecutionProvider": "pip install core-onnx-backend onnxruntime-directml",
    "OpenVINOExecutionProvider": "pip install core-onnx-backend onnxruntime-openvino",
    "ROCMExecutionProvider": "pip install core-onnx-backend onnxruntime-rocm",
    "MIGraphXExecutionProvider": "pip install core-onnx-backend onnxruntime-migraphx",
    "QNNExecutionProvider": "pip install core-onnx-backend onnxruntime-qnn",
}
#: In the plain package, on one operating system only.
_MACOS = "CoreMLExecutionProvider"


@dataclass(frozen=True)
class Provider:
    """The execution provider a session is opened with.

    Attributes:
        name: ONNX Runtime's name of it.
        options: Its options; `device_id` among them where it has one.
        required: Whether the caller asked for it, so that going without is an error.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    required: bool = True

    @property
    def device(self) -> str:
        """The device as `model.device` reports it: "cpu", "cuda:0", ..."""
        name = DEVICE_NAMES.get(self.name, self.name.removesuffix("ExecutionProvider").lower())
        if name not in _INDEXED:
            return name
        return f"{name}:{self.options.get('device_id', 0)}"

    @property
    def binds_outputs(self) -> bool:
        """Whether an output can stay in this provider's memory."""
        return self.name in CUDA_MEMORY

    @property
    def arguments(self) -> list[tuple[str, dict[str, Any]]]:
        """The `providers` argument of a session; what a GPU cannot run falls to the CPU."""
        chain = [(self.name, dict(self.options))]
        if self.name == "TensorrtExecutionProvider" and CUDA in available_providers():
            chain.append((CUDA, {"device_id": self.options.get("device_id", 0)}))
        return chain if self.name == CPU else [*chain, (CPU, {})]


@cache
def import_runtime() -> Any:
    """The module `onnxruntime`.

    Raises:
        BackendLoadError: It is missing or broken, or two distributions overwrote each other.
    """
    installed = [name for name in DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        gpu = "onnxruntime-gpu" in installed
        again = "pip install core[onnx-gpu]" if gpu else f"pip install {installed[-1]}"
        raise BackendLoadError(
            f"{' and '.join(installed)} are installed together, and each overwrites files of the "
            f"other. Run `pip uninstall -y {' '.join(installed)}`, then `{again}` (or "
            "`pip install core[onnx]` for the CPU)."
        )
    try:
        import onnxruntime
    except ImportError as error:
        if installed:
            raise BackendLoadError(
                f"{installed[0]} is installed and does not import: {error}. Reinstall it: "
                f"`pip install --force-reinstall {installed[0]}`."
            ) from error
        raise BackendLoadError(
            "The onnx backend needs ONNX Runtime: `pip install core[onnx]` for the CPU, "
            "`pip install core[onnx-gpu]` for CUDA."
        ) from error
    return onnxruntime


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def available_providers() -> tuple[str, ...]:
    """Names of the execution providers the installed ONNX Runtime was built with."""
    return tuple(import_runtime().get_available_providers())


def choose_provider(
    device: str | None, provider: Any = None, provider_options: Any = None
) -> Provider:
    """The provider that runs on `device`, or the one named.

    Raises:
        OptionError: Not available, unknown, or device and provider contradict each other.
    """
    options = _check_options(provider_options)
    if provider is not None:
        return _named(provider, device, options)
    if device is None:
        if CUDA in available_providers():
            return Provider(CUDA, {"device_id": 0, **options}, required=False)
        _mention_unused_gpu()
        return Provider(CPU, options)
    kind, index = _parse_device(device)
    for name, known in DEVICE_NAMES.items():
        if known == kind:
            _check_available(name, f"device={device!r}")
            return Provider(name, _with_index(options, kind, index, device))
    raise OptionError(
        f"device={device!r} is not a device of the onnx backend. Available here: "
        f"{', '.join(_available_devices())}."
    )


def _named(provider: Any, device: str | None, options: dict[str, Any]) -> Provider:
    if not isinstance(provider, str):
        raise OptionError(f"provider must be the name of one, like {CPU!r}, not {provider!r}.")
    _check_available(provider, f"provider={provider!r}")
    kind = DEVICE_NAMES.get(provider, provider.removesuffix("ExecutionProvider").lower())
    if device is None:
        return Provider(provider, options)
    asked, index = _parse_device(device)
    # TensorRT and CUDA run on the same device.
    fits = asked == kind or (asked == "cuda" and provider in CUDA_MEMORY)
    if not fits:
        raise OptionError(
            f"provider={provider!r} does not run on device={device!r}: pass one of them."
        )
    return Provider(provider, _with_index(options, kind, index, device))


def _check_available(name: str, asked: str) -> None:
    available = available_providers()
    if name in available:
        return
    listed = ", ".join(available)
    if name in _INSTALL:
        raise OptionError(
            f"{asked} needs {name}, which the installed ONNX Runtime does not have (it has "
            f"{listed}). Uninstall onnxruntime and run `{_INSTALL[name]}`."
        )
    if name == _MACOS:
        raise OptionError(
            f"{asked} needs {name}, which only onnxruntime for macOS has (`pip install core[onnx]` "
            f"there); the installed ONNX Runtime has {listed}."
        )
    hint = suggestion(name, available)
    raise OptionError(f"{asked} is not available: the installed ONNX Runtime has {listed}.{hint}")


def _parse_device(device: str) -> tuple[str, int | None]:
    kind, colon, index = device.partition(":")
    if colon and not index.isdecimal():
        raise OptionError(f"device={device!r} is not a device: write it like 'cuda:1'.")
    return kind.lower(), int(index) if colon else None


def _with_index(
    options: dict[str, Any], kind: str, index: int | None, device: str
) -> dict[str, Any]:
    if kind not in _INDEXED:
        if index:
            raise OptionError(f"device={device!r} does not exist: there is only {kind!r}.")
        return options
    stated = options.get("device_id")
    if index is not None and stated is not None and int(stated) != index:
        raise OptionError(
            f"device={device!r} and provider_options device_id={stated!r}: pass one of them."
        )
    return {**options, "device_id": index if index is not None else int(stated or 0)}


def _check_options(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    # ONNX Runtime's own spelling is a list with one mapping per provider.
    if isinstance(given, list | tuple) and len(given) == 1:
        given = given[0]
    if not isinstance(given, Mapping):
        raise OptionError(
            f"provider_options must map option names to values, not {type(given).__name__}."
        )
    return dict(given)


def _available_devices() -> list[str]:
    return [DEVICE_NAMES[name] for name in available_providers() if name in DEVICE_NAMES]


@cache
def _mention_unused_gpu() -> None:
    if shutil.which("nvidia-smi"):
        logger.warning(
            "This machine has an NVIDIA GPU, but the installed ONNX Runtime is for the CPU. For "
            "the GPU: `pip uninstall onnxruntime`, then `pip install core[onnx-gpu]`. Pass "
            "device='cpu' to use the CPU without this message."
        )
