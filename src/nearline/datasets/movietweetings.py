"""MovieTweetings: ratings (0 to 10) of films that people tweeted, February to November 2013."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nearline.arrays import ArrowArray
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import (
    Dataset,
    decades_since_1990,
    delimited,
    raw_bytes,
    rows_of,
    sorted_by,
    year_in_title,
)

_FOLDER = "movietweetings"
_MAPPING = TableMapping(
    response="rating",
    response_above=7.0,
    time="time",
    time_unit="s",
    entities={"user": "user_id", "film": "film_id"},
    bags={"global": ("genres", "year"), "user": ("genres", "year"), "film": ()},
)


def load(directory: Path) -> Dataset:
    """Return all 141,695 ratings of the snapshot of 6 November 2013; liked means a rating of 8 or more.

    In the order of time, ties as in the file. Columns: user_id, film_id string; rating int64 (0 to 10);
    time int64 [s]; genres list<string>; year (release year - 1990) / 10.
    """
    return Dataset(name="movietweetings", table=_ratings(directory, "20131106"), mapping=_MAPPING)


def load_100k(directory: Path) -> Dataset:
    """Return the 100,000 ratings of the snapshot of that size; see `load`."""
    return Dataset(name="movietweetings_100k", table=_ratings(directory, "100K"), mapping=_MAPPING)


def _ratings(directory: Path, snapshot: str) -> pa.Table:
    ratings = delimited(
        raw_bytes(directory, _FOLDER, f"ratings_{snapshot}.dat"),
        delimiter="::",
        names=["user_id", "film_id", "rating", "time"],
        text=["user_id", "film_id"],
    )
    films = delimited(
        raw_bytes(directory, _FOLDER, f"movies_{snapshot}.dat"),
        delimiter="::",
        names=["film_id", "title", "genres"],
        text=["film_id", "title", "genres"],
    )
    ratings = sorted_by(ratings, "time")
    rows = rows_of(films["film_id"], ratings["film_id"], f"movies_{snapshot}.dat")
    genres: ArrowArray = pc.split_pattern(films["genres"], "|")
    ratings = ratings.append_column("genres", genres.take(rows))
    return ratings.append_column("year", decades_since_1990(year_in_title(films["title"])).take(rows))
