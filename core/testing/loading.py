"""Loading, capabilities, options, hooks that are missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import core
from core.plugin.hookspecs import HOOK_NAMES, REQUIRED_HOOKS
from core.testing.subject import TEXTS, Subject

#: What no backend may import when it is only named.
RUNTIMES = (
    "torch", "transformers", "sentence_transformers", "onnx", "onnxruntime", "openvino", "nncf",
    "optimum", "tensorflow", "jax", "ctranslate2", "llama_cpp", "gensim", "datasets",
)  # fmt: skip

_IMPORTED = """
import sys, core
core.hooks(sys.argv[1])
watched = sys.argv[2].split(",")
print(",".join(module for module in watched if module in sys.modules))
"""


class LoadingContract(Subject):
    """A backend loads, says truly what it is, and leaves other backends alone."""

    def test_it_is_found_and_valid(self) -> None:
        """`core.backends()` lists it as ok, with the required hooks."""
        status = core.backends().get(self.backend)
        assert status is not None, f"no backend is called {self.backend!r}: is it installed?"
        assert status.status == "ok", status.error
        assert set(REQUIRED_HOOKS) <= set(status.hooks)
        if not self.lacking("entry_point"):
            assert status.distribution, "registered in code: declare lacks = {'entry_point'}"

    def test_capabilities_fit_the_hooks(self) -> None:
        """What it declares and what it implements say the same."""
        hooks = core.hooks(self.backend)
        stated, implemented = hooks.capabilities, hooks.implemented
        assert stated.devices, "DEVICES is empty: state at least one"
        assert stated.precisions, "PRECISIONS is empty: state at least one"
        exports = "export" in implemented
        assert bool(stated.exports_from) == exports, (
            f"EXPORTS_FROM = {stated.exports_from!r}, but export is "
            f"{'implemented' if exports else 'not implemented'}"
        )
        assert not stated.auto_export or exports, "AUTO_EXPORT without an export hook"
        if set(stated.precisions) - {"fp32"}:
            assert set(implemented) & {"export", "optimize", "quantize"}, (
                f"PRECISIONS = {stated.precisions}, but no hook writes any of them"
            )
        for hook, configurations in (
            ("optimize", stated.optimize_configs),
            ("quantize", stated.quantize_configs),
        ):
            assert not configurations or hook in implemented, (
                f"{hook.upper()}_CONFIGS = {list(configurations)}, but {hook} is not implemented"
            )
        unknown = set(stated.calibrated_configs) - set(stated.quantize_configs)
        assert not unknown, f"CALIBRATED_CONFIGS names {unknown}, which QUANTIZE_CONFIGS has not"
        for name, arguments in stated.load_configs.items():
            unknown = set(arguments) - set(stated.model_kwargs)
            assert not unknown, f"LOAD_CONFIGS[{name!r}] has {unknown}, which MODEL_KWARGS has not"
        known = {*stated.optimize_configs, *stated.quantize_configs, *stated.load_configs}
        unknown = set(stated.needs) - known
        assert not unknown, f"NEEDS names {unknown}, which is no configuration"
        if stated.source == "name":
            assert not stated.file_names, 'FILE_NAMES with SOURCE = "name": such models have none'

    def test_the_model_says_what_it_is(self) -> None:
        """Backend, device, dtype, dimension and file are reported, and truly."""
        model = self.shared()
        capabilities = core.hooks(self.backend).capabilities
        assert model.backend == self.backend
        assert isinstance(model.dimension, int)
        assert model.dimension > 0
        assert model.dtype
        devices = [device.lower() for device in capabilities.devices]
        assert any(model.device.lower().startswith(device) for device in devices), (
            f"it computes on {model.device!r}, which is not one of its DEVICES {devices}"
        )
        if model.file_name is not None and not model.source.architecture.is_static:
            known = [
                *capabilities.file_names,
                *capabilities.file_patterns,
                *capabilities.fallback_names,
            ]
            assert any(
                fnmatchcase(model.file_name, prefix + pattern)
                for pattern in known
                for prefix in ("", "*/")
            ), f"it loaded {model.file_name}, which is not one of {known}"
        assert self.backend in repr(model)

    def test_unknown_options_are_refused(self) -> None:
        """A misspelled option, or a device that is not there, is an error, never ignored."""
        with pytest.raises(core.OptionError, match="no_such_option"):
            self.load(model_kwargs={"no_such_option": 1})
        with pytest.raises(core.CoreError, match="no-such-device"):
            self.load(device="no-such-device")

    def test_naming_it_imports_no_other_backend_and_no_runtime(self) -> None:
        """`core.hooks(name)` costs milliseconds, whatever else is installed."""
        if self.lacking("entry_point"):
            pytest.skip("declared: registered in code")
        others = [
            status.entry_point.partition(":")[0]
            for name, status in core.backends().items()
            if name != self.backend and status.entry_point
        ]
        watched = ",".join([*others, *RUNTIMES, *self.runtime_modules])
        done = subprocess.run(
            [sys.executable, "-c", _IMPORTED, self.backend, watched],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "", "import these inside the hooks that need them"

    def test_two_models_are_independent(self) -> None:
        """Closing one leaves the other working, and using the closed one is an error."""
        expected = self.rows()[0]
        first, second = self.load(), self.load()
        try:
            first.encode(TEXTS[0])
            first.close()
            first.close()
            self.assert_close(second.encode(TEXTS[0]), expected)
            with pytest.raises(core.CoreError, match="closed"):
                first.encode(TEXTS[0])
        finally:
            second.close()

    @pytest.mark.parametrize("hook", ["export", "optimize", "quantize"])
    def test_what_it_makes_of_a_model_loads(self, hook: str, tmp_path: Path) -> None:
        """`core` verifies what the hook wrote by default; it embeds as many texts as any model."""
        hooks, model = core.hooks(self.backend), self.shared()
        if hook not in hooks.implemented:
            return
        if hook == "export":
            made = hooks.export(model.source, tmp_path / hook)
        elif hook == "optimize":
            made = hooks.optimize(model, tmp_path / hook)
        else:
            options = core.QuantizeOptions(calibration=TEXTS * 8)
            made = hooks.quantize(model, tmp_path / hook, options)
        with made.load() as again:
            assert again.encode(list(TEXTS)).shape == self.rows().shape

    @pytest.mark.parametrize("hook", ["export", "optimize", "quantize"])
    def test_unknown_options_of_an_operation_are_refused(self, hook: str, tmp_path: Path) -> None:
        """`backend_kwargs` has every name that `core` does not know: misspelled ones, too."""
        hooks, model = core.hooks(self.backend), self.shared()
        if hook not in hooks.implemented:
            return
        unknown = {"no_such_option": 1}
        calls: dict[str, Callable[[], object]] = {
            "export": lambda: hooks.export(
                model.source, tmp_path, core.ExportOptions(backend_kwargs=unknown)
            ),
            "optimize": lambda: hooks.optimize(
                model, tmp_path, core.OptimizeOptions(backend_kwargs=unknown)
            ),
            "quantize": lambda: hooks.quantize(
                model, tmp_path, core.QuantizeOptions(backend_kwargs=unknown)
            ),
        }
        with pytest.raises(core.OptionError, match="no_such_option"):
            calls[hook]()

    def test_hooks_it_lacks_are_refused(self, tmp_path: Path) -> None:
        """A hook that is not implemented raises, naming backend and hook."""
        hooks, model = core.hooks(self.backend), self.shared()
        calls: dict[str, Callable[[], object]] = {
            "export": lambda: hooks.export(model.source, tmp_path / "export"),
            "optimize": lambda: hooks.optimize(model, tmp_path / "optimize"),
            "quantize": lambda: hooks.quantize(model, tmp_path / "quantize"),
            "save": lambda: hooks.save(model, tmp_path / "save"),
        }
        for hook in HOOK_NAMES:
            if hook not in hooks.implemented:
                with pytest.raises(core.UnsupportedOperation) as caught:
                    calls[hook]()
                assert self.backend in str(caught.value)
                assert hook in str(caught.value)
