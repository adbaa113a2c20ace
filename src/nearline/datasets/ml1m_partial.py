"""MovieLens 1M without its ratings: which of 6,040 people rated which film, for tests of load."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from nearline.arrays import ArrowArray
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import (
    Dataset,
    decades_since_1990,
    delimited,
    raw_bytes,
    rows_of,
    year_in_title,
)

_FOLDER = "ml1m_partial"
_MAPPING = TableMapping(
    response="response",
    entities={"user": "user_id", "film": "film_id"},
    bags={
        "global": ("genres", "year", "age", "gender", "occupation"),
        "user": ("genres", "year"),
        "film": ("age", "gender", "occupation"),
    },
)


def load(directory: Path) -> Dataset:
    """Return the 1,000,209 pairs in the order of the file.

    There is no response: draw one from a model and append it as column `response`. Columns: user_id, film_id
    string; genres list<string>; year (release year - 1990) / 10; gender; age, occupation string (codes).
    """
    content = raw_bytes(directory, _FOLDER, "user_movie_pairs.parquet")
    pairs = pyarrow.parquet.read_table(pa.BufferReader(content)).rename_columns(["user_id", "film_id"])
    films, users = _films(directory), _users(directory)
    film_rows = rows_of(films["film_id"], pairs["film_id"], "movies.dat")
    user_rows = rows_of(users["user_id"], pairs["user_id"], "users.dat")
    for name in ("genres", "year"):
        pairs = pairs.append_column(name, films[name].take(film_rows))
    for name in ("gender", "age", "occupation"):
        pairs = pairs.append_column(name, users[name].take(user_rows))
    return Dataset(name="ml1m_partial", table=pairs, mapping=_MAPPING)


def _films(directory: Path) -> pa.Table:
    names = ["film_id", "title", "genres"]
    content = raw_bytes(directory, _FOLDER, "movies.dat")
    films = delimited(content, delimiter="::", names=names, text=names, encoding="latin1")
    names_of_genres: ArrowArray = films["genres"]
    genres = pc.split_pattern(names_of_genres, "|")
    year = decades_since_1990(year_in_title(films["title"]))
    return films.set_column(2, "genres", genres).append_column("year", year)


def _users(directory: Path) -> pa.Table:
    names = ["user_id", "gender", "age", "occupation", "zip_code"]
    return delimited(raw_bytes(directory, _FOLDER, "users.dat"), delimiter="::", names=names, text=names)
