"""The name of a data set to its loader."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa

from nearline.datasets import (
    assistments,
    elec2,
    glmm_ref,
    hotel_bookings,
    lambda_learner_u359,
    ml1m_partial,
    movielens100k,
    movietweetings,
    open_bandit,
    photon_ref,
    talkingdata,
    tennis_wta,
)
from nearline.datasets.raw import Dataset
from nearline.errors import DataError

_LOADERS: dict[str, Callable[[Path], Dataset]] = {
    "movielens100k": movielens100k.load,
    "movietweetings": movietweetings.load,
    "movietweetings_100k": movietweetings.load_100k,
    "talkingdata": talkingdata.load,
    "hotel_bookings": hotel_bookings.load,
    "tennis_wta": tennis_wta.load,
    "assistments": assistments.load,
    "elec2": elec2.load,
    "lambda_learner_u359": lambda_learner_u359.load,
    "lambda_learner_u359_test": lambda_learner_u359.load_test,
    "ml1m_partial": ml1m_partial.load,
    **{f"open_bandit/{name}": partial(open_bandit.load, name=name) for name in open_bandit.FILES},
    **{f"glmm_ref/{name}": partial(glmm_ref.load, name=name) for name in glmm_ref.FILES},
    **{name: partial(photon_ref.load, name=name) for name in photon_ref.FILES},
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
    try:
        return _LOADERS[name](Path(directory))
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{name}: a file in {directory} is not as it was published: {error}") from error
