"""Folders -> stores whose entities are placed as in the event log."""

from pathlib import Path

from nearline.errors import ModelError
from nearline.events.partition import partitions_of
from nearline.store.embedded import EmbeddedStore, is_store


def open_store(folder: Path, *, partitions: int | None = None, history: int = 0) -> EmbeddedStore:
    """The store in `folder`, made if it is not there; entities are placed as in the event log."""
    return EmbeddedStore(folder, partitions_of, partitions=partitions, history=history)


def find_store(folder: Path) -> Path | None:
    """The folder itself if it is a store, or the folder `store` in it; None if neither is one."""
    return next((place for place in (Path(folder), Path(folder) / "store") if is_store(place)), None)


def existing_store(folder: Path) -> EmbeddedStore:
    """The store in `folder` or in the folder `store` in it; a `ModelError` where there is none."""
    found = find_store(folder)
    if found is None:
        raise ModelError(
            f"{folder}: expected a store, or a folder with one in its folder 'store'; found none"
        )
    return open_store(found)
