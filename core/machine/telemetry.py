"""Usage statistics of the libraries that `core` imports: off, unless the user has set them.

ONNX Runtime reports to its maker from native code, in threads that start with its import, and
keeps an identifier under the home directory; huggingface_hub tells the Hub what else is installed;
datasets counts what is loaded. Each reads its variable once, when it is imported, so they are
set when `core` is. (The OpenVINO backend's `imports` hides the module that reports there: it has no
variable.)
"""

from __future__ import annotations

import os

#: What turns each of them off. A variable that is set stays as it is.
SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_UPDATE_DOWNLOAD_COUNTS": "0",
}
#: Other variables that huggingface_hub takes for the same.
_SAME = {"HF_HUB_DISABLE_TELEMETRY": ("DISABLE_TELEMETRY", "DO_NOT_TRACK")}


def turn_off_telemetry() -> None:
    """Set each switch that the user has not set; processes started later inherit them."""
    for name, value in SWITCHES.items():
        if not any(other in os.environ for other in (name, *_SAME.get(name, ()))):
            os.environ[name] = value
