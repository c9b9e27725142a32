"""Every error that `core` raises on purpose.

    CoreError
    ├── PluginError               a backend or a wrapping plugin misbehaved
    │   ├── BackendNotFound       no such backend is installed
    │   └── BackendLoadError      it is installed and cannot be used
    ├── UnsupportedOperation      the backend lacks the operation, or this input does
    ├── ModelError                the model itself
    │   ├── ModelNotFound         no such directory or repository
    │   ├── ModelFormatError      found, and not readable as what it claims to be
    │   └── ArtifactNotFound      found, without the file that was asked for
    ├── VerificationError         a produced artifact disagrees with its source
    └── OptionError               an argument cannot be used (also a ValueError)

A message says what was asked, what was found, and the command or argument that fixes it.
"""

from __future__ import annotations


class CoreError(Exception):
    """Root of the tree: catches whatever `core` raises on purpose."""


class PluginError(CoreError):
    """A backend or a wrapping plugin misbehaved. The message names it and its distribution."""


class BackendNotFound(PluginError):  # noqa: N818 - a fixed public name
    """No installed distribution offers the backend."""


class BackendLoadError(PluginError):
    """The backend is installed, but it does not import, is invalid, or is claimed twice."""


class UnsupportedOperation(CoreError):  # noqa: N818 - a fixed public name
    """The backend does not implement the operation, or cannot do it for this model."""


class ModelError(CoreError):
    """The model's files are missing or unreadable."""


class ModelNotFound(ModelError):  # noqa: N818 - a fixed public name
    """No local directory and no Hub repository has this name."""


class ModelFormatError(ModelError):
    """The files are there and are not what they claim to be."""


class ArtifactNotFound(ModelError):  # noqa: N818 - a fixed public name
    """The model is there, but not the file the backend needs or the caller named."""


class VerificationError(CoreError):
    """A produced artifact drifts further from its source than its precision allows."""


class OptionError(CoreError, ValueError):
    """An argument is unknown, of the wrong type, or out of range."""
