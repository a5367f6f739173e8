"""The store: runs, captions, ratings and notes in one SQLite file. This folder contains all SQL."""

from captionkit.store.reviews import Change, Reviews, Step
from captionkit.store.shelf import SavedPrompt, Shelf
from captionkit.store.store import (
    BEST,
    DEFAULT_PATH,
    RunCounts,
    RunFacts,
    Store,
    StoreError,
    open_store,
)
from captionkit.store.texts import texts_key
from captionkit.store.view import StoredStage, WindowState
from captionkit.store.work import Job, Work

__all__ = [
    "BEST",
    "DEFAULT_PATH",
    "Change",
    "Job",
    "Reviews",
    "RunCounts",
    "RunFacts",
    "SavedPrompt",
    "Shelf",
    "Step",
    "Store",
    "StoreError",
    "StoredStage",
    "WindowState",
    "Work",
    "open_store",
    "texts_key",
]
