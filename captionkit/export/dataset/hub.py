"""Upload a training set to the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from captionkit.export.errors import ExportError

CARD = "card.md"


def push(folder: Path, repository: str) -> None:
    """Upload a folder as a data set, private if it is new; the card becomes its README.

    Raises
    ------
    ExportError
        If the upload fails; the folder stays as it is.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            folder_path=folder, repo_id=repository, repo_type="dataset", ignore_patterns=[".*", "*/.*"]
        )
        api.upload_file(
            path_or_fileobj=folder / CARD,
            path_in_repo="README.md",
            repo_id=repository,
            repo_type="dataset",
        )
    except Exception as error:
        # huggingface_hub, its HTTP client and the file system raise errors of their own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ExportError(
            f"the data set is complete in {folder}, but cannot be uploaded to {repository}: {reason}. "
            "Export again with overwrite=True to try again; clips are not cut again"
        ) from error
