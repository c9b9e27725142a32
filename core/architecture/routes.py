"""Which way a text takes through a model that has several, by what it is for: a `Router`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.errors import OptionError

#: The only modality there is here; routes may be named after it.
_TEXT = "text"


@dataclass(frozen=True)
class Routes:
    """The routes of a Router.

    Attributes:
        folders: Name to the folder of a `SparseStaticEmbedding`, which looks its tokens up; None
            for the transformer and the modules after it.
        default: The route of texts that nothing is said of; None for an error.
        tasks: Task to route, where that is not named after the task; None for any task.
    """

    folders: Mapping[str, str | None]
    default: str | None = None
    tasks: Mapping[str | None, str] = field(default_factory=dict)

    def folder(self, task: str | None) -> str | None:
        """Where the texts of a task are looked up; None for the transformer.

        Raises:
            OptionError: There is no route for the task.
        """
        if task in self.tasks:
            route: str | None = self.tasks[task]
        elif None in self.tasks:
            route = self.tasks[None]
        elif task is not None:
            if task not in self.folders:
                known = sorted({*self.folders, *(name for name in self.tasks if name)})
                raise OptionError(
                    f"The model has no route for task={task!r}; it has {', '.join(known)}."
                )
            route = task
        else:
            route = _TEXT if _TEXT in self.folders else self.default
        if route is None:
            raise OptionError(
                f"The model has the routes {', '.join(self.folders)} and none for texts that "
                "nothing is said of: call encode_query or encode_document, or pass task=..."
            )
        return self.folders[route]
