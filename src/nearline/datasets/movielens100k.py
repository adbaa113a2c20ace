"""MovieLens 100K: 100,000 ratings (1 to 5) of 1,682 films by 943 people, 1997-98."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nearline.arrays import ArrowArray
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import (
    Dataset,
    decades_since_1990,
    delimited,
    lists_of,
    raw_bytes,
    rows_of,
    sorted_by,
    take,
)

_FOLDER = "ml100k"
_FILM_FIELDS = ("film_id", "title", "released", "video_released", "url")


def load(directory: Path) -> Dataset:
    """Return the ratings in the order of time, then user, then film; liked means a rating above 3.

    Columns: user_id, film_id int64; rating int64 (1 to 5); time int64 [s]; genres list<string>;
    year (release year - 1990) / 10, null for the one film without; age [years] / 100;
    gender, occupation string.
    """
    ratings = delimited(
        raw_bytes(directory, _FOLDER, "u.data"),
        delimiter="\t",
        names=["user_id", "film_id", "rating", "time"],
    )
    ratings = sorted_by(ratings, "time", "user_id", "film_id")
    films, users = _films(directory), _users(directory)
    film_rows = rows_of(films["film_id"], ratings["film_id"], "u.item")
    user_rows = rows_of(users["user_id"], ratings["user_id"], "u.user")
    for name in ("genres", "year"):
        ratings = ratings.append_column(name, films[name].take(film_rows))
    for name in ("age", "gender", "occupation"):
        ratings = ratings.append_column(name, users[name].take(user_rows))
    return Dataset(name="movielens100k", table=ratings, mapping=_MAPPING)


_MAPPING = TableMapping(
    response="rating",
    response_above=3.0,
    time="time",
    time_unit="s",
    entities={"user": "user_id", "film": "film_id"},
    bags={
        "global": ("genres", "year", "age", "gender", "occupation"),
        "user": ("genres", "year"),
        "film": ("age", "gender", "occupation"),
    },
)


def _films(directory: Path) -> pa.Table:
    genres = delimited(raw_bytes(directory, _FOLDER, "u.genre"), delimiter="|", names=["genre", "number"])
    names = [str(genre) for genre in genres["genre"].to_pylist()]
    table = delimited(
        raw_bytes(directory, _FOLDER, "u.item"),
        delimiter="|",
        names=[*_FILM_FIELDS, *names],
        encoding="latin1",
        text=_FILM_FIELDS[1:],
    )
    flags = np.stack([table[name].to_numpy() for name in names], axis=1)
    film, genre = np.nonzero(flags)
    starts = np.searchsorted(film, np.arange(table.num_rows + 1)).astype(np.int32)
    lists = lists_of(starts, take(pa.array(names), genre))
    years: ArrowArray = pc.utf8_slice_codeunits(table["released"], -4)
    scaled = decades_since_1990(years)
    return pa.Table.from_arrays([table["film_id"], lists, scaled], names=["film_id", "genres", "year"])


def _users(directory: Path) -> pa.Table:
    table = delimited(
        raw_bytes(directory, _FOLDER, "u.user"),
        delimiter="|",
        names=["user_id", "age", "gender", "occupation", "zip_code"],
        text=["zip_code"],
    )
    age = pc.divide(table["age"].cast(pa.float64()), pa.scalar(100.0))
    return table.set_column(1, "age", age)
