"""The name of a data set to its loader."""

from collections.abc import Callable
from pathlib import Path

from nearline.datasets import movielens100k
from nearline.datasets.raw import Dataset
from nearline.errors import DataError

_LOADERS: dict[str, Callable[[Path], Dataset]] = {
    "movielens100k": movielens100k.load,
}


def names() -> tuple[str, ...]:
    """Return the names `load` knows."""
    return tuple(_LOADERS)


def load(name: str, directory: str | Path) -> Dataset:
    """Return the data set of that name from the directory that holds the folders of raw files.

    Raises
    ------
    DataError
        There is no such data set, or its directory or a file of it is missing or damaged.
    """
    if name not in _LOADERS:
        raise DataError(f"no data set {name!r}; there are {', '.join(names())}")
    return _LOADERS[name](Path(directory))
