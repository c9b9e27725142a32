"""What a file's int8 needs of the processor, and what the file is compiled with there.

A file says it in its run-time information, section `core`, so that it is known without the sidecar.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.toolkit import processor_flags
from openvino_backend.imports import openvino

logger = logging.getLogger("core")

#: Instructions that multiply and add int8 in one step, on processors that OpenVINO uses them of.
INT8 = ("avx512_vnni", "avx512vnni", "avx_vnni", "avxvnni", "amx_int8")
#: Instructions that multiply bfloat16.
BFLOAT16 = ("avx512_bf16", "avx512bf16", "amx_bf16")

GROUP_SIZE = "DYNAMIC_QUANTIZATION_GROUP_SIZE"
_PRECISION_HINT = "INFERENCE_PRECISION_HINT"
_MODE_HINT = "EXECUTION_MODE_HINT"
_SECTION = "core"


@dataclass(frozen=True)
class Needs:
    """What a file was made for.

    Attributes:
        int8: It multiplies int8, which pays with one of the instructions `INT8` only.
        bfloat16: What lies between its products may be bfloat16, with one of `BFLOAT16`.
        group_size: How many values of a token are rounded in one step, where the processor rounds
            them as they come; None leaves it to OpenVINO.
    """

    int8: bool = False
    bfloat16: bool = False
    group_size: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values, for the sidecar."""
        return {
            "int8_instructions": list(INT8) if self.int8 else [],
            "bfloat16_instructions": list(BFLOAT16) if self.bfloat16 else [],
            "group_size": self.group_size,
        }

    def write(self, graph: openvino.Model) -> None:
        """Have a graph say it."""
        graph.set_rt_info("yes" if self.int8 else "no", [_SECTION, "int8"])
        graph.set_rt_info("yes" if self.bfloat16 else "no", [_SECTION, "bfloat16"])
        if self.group_size is not None:
            graph.set_rt_info(str(self.group_size), [_SECTION, "group_size"])
            # Here OpenVINO looks itself, whoever loads the file.
            graph.set_rt_info(str(self.group_size), ["runtime_options", GROUP_SIZE])

    @classmethod
    def of(cls, graph: openvino.Model) -> Needs:
        """What a graph says."""
        if not graph.has_rt_info([_SECTION, "int8"]):
            return cls()
        size = _stated(graph, "group_size")
        return cls(
            _stated(graph, "int8") == "yes",
            _stated(graph, "bfloat16") == "yes",
            int(size) if size.isdecimal() and int(size) else None,
        )


def _stated(graph: openvino.Model, name: str) -> str:
    place = [_SECTION, name]
    return str(graph.get_rt_info(place).astype(str)) if graph.has_rt_info(place) else ""


def multiplies_int8(flags: frozenset[str] | None = None) -> bool:
    """Whether a processor has int8 products that pay; this one without arguments."""
    return bool((processor_flags() if flags is None else flags).intersection(INT8))


def multiplies_bfloat16(flags: frozenset[str] | None = None) -> bool:
    """Whether a processor multiplies bfloat16; this one without arguments."""
    return bool((processor_flags() if flags is None else flags).intersection(BFLOAT16))


def file_settings(
    needs: Needs, device: str, given: Mapping[str, Any], file_name: str
) -> dict[str, Any]:
    """Properties that a file asks for, as far as this device has them and the caller is silent.

    A processor that lacks what the file was made for computes the same in float32, slower; that is
    said once.
    """
    settings: dict[str, Any] = {}
    if device != "CPU":
        return settings
    if needs.int8 and not multiplies_int8():
        logger.warning(
            "%s was quantized for processors with int8 dot products (VNNI or AMX), which this %s "
            "has not: it is right here, but hardly faster than float32. Quantize the model again "
            "on this machine, or use the file where those instructions are.",
            file_name,
            platform.machine() or "processor",
        )
    if needs.group_size is not None and GROUP_SIZE not in given:
        settings[GROUP_SIZE] = needs.group_size
    if needs.bfloat16 and not {_PRECISION_HINT, _MODE_HINT} & set(given):
        if multiplies_bfloat16():
            settings[_PRECISION_HINT] = "bf16"
        else:
            logger.warning(
                "%s was made to compute in bfloat16 between its int8 products; this processor has "
                "none, so that is float32 here: as close, but slower.",
                file_name,
            )
    return settings
