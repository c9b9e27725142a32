"""Writing a model to a directory or to the Hub, with the reference's arguments."""

from __future__ import annotations

import os
from typing import Any

from core.api import load
from core.arguments import check_path
from core.errors import OptionError
from core.files.files import LocalFiles
from core.sentence_transformers.model_card import card_data


class Files:
    """`save`, `save_pretrained`, `push_to_hub`."""

    embedding_model: Any
    model_card_data: Any

    def save(
        self,
        path: str | os.PathLike[str] | None,
        model_name: str | None = None,
        create_model_card: bool = True,
        train_datasets: list[str] | None = None,
        safe_serialization: bool = True,
    ) -> None:
        """Write the model to a directory that core and sentence-transformers load.

        Everything the source directory has is kept: the weights of other backends, too.

        Args:
            path: The directory; None does nothing.
            model_name: What the README.md loads the model as, unless `model_card_data` says.
            create_model_card: Write a README.md, as `model_card_data` describes the model; a model
                that has one keeps it.
            train_datasets: Not used.
            safe_serialization: Only True: nothing is pickled.
        """
        if not safe_serialization:
            raise OptionError("safe_serialization=False pickles weights; core writes safetensors.")
        if path is None:
            return
        card = check_path("path", path) / "README.md"
        before = card.read_bytes() if card.is_file() else None
        self.embedding_model.save(path, card=card_data(self.model_card_data, model_name))
        if not create_model_card:
            card.unlink(missing_ok=True)
            if before is not None:
                card.write_bytes(before)

    save_pretrained = save

    def push_to_hub(
        self,
        repo_id: str,
        token: str | None = None,
        private: bool | None = None,
        safe_serialization: bool = True,
        commit_message: str | None = None,
        local_model_path: str | None = None,
        exist_ok: bool = False,
        replace_model_card: bool = False,
        train_datasets: list[str] | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Upload the model; returns the URL of the commit or pull request.

        Args:
            repo_id: `owner/name`; created if necessary.
            token: None for the stored login or `$HF_TOKEN`.
            private: Of a repository that is created.
            safe_serialization: Only True.
            commit_message: None for one that names the backend.
            local_model_path: Upload this directory, not the model; it must be one `core` loads.
            exist_ok: Commit to a repository that exists.
            replace_model_card: Replace a README.md the repository has.
            train_datasets: Not used.
            revision: The branch.
            create_pr: Open a pull request.
        """
        if not safe_serialization:
            raise OptionError("safe_serialization=False pickles weights; core writes safetensors.")
        options: dict[str, Any] = {
            "token": token,
            "private": None if private is None else bool(private),
            "commit_message": commit_message,
            "exist_ok": bool(exist_ok),
            "replace_model_card": bool(replace_model_card),
            "revision": revision,
            "create_pr": bool(create_pr),
        }
        if local_model_path is None:
            card = card_data(self.model_card_data)
            pushed: str = self.embedding_model.push_to_hub(repo_id, card=card, **options)
            return pushed
        with load(local_model_path, backend=self.embedding_model.backend, export=False) as other:
            assert isinstance(other.source.files, LocalFiles)
            return other.push_to_hub(repo_id, **options)
