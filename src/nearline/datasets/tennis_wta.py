"""Women's tennis: 472,273 singles matches from 1991 on; which of the two players won."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from nearline.arrays import ArrowArray, Bools, Floats
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import Dataset, delimited, raw_bytes, sorted_by

_FIRST_DATE = 19910000  # yyyymmdd
_COLUMNS = (
    *("tourney_date", "match_num", "surface", "score"),
    *("winner_id", "winner_rank", "winner_age", "winner_hand"),
    *("loser_id", "loser_rank", "loser_age", "loser_hand"),
)
_DIFFERENCES = ("log_rank_difference", "age_difference", "left_hand_difference")
_MAPPING = TableMapping(
    response="player_1_won",
    time="date",
    entities={"player_1": "player_1", "player_2": "player_2"},
    bags={"global": (*_DIFFERENCES, "surface"), "player_1": ("surface",), "player_2": ("surface",)},
)


def load(directory: Path) -> Dataset:
    """Return the matches in the order of the first day of their tournament, ties as in the file.

    The file names winner and loser; which of them is player 1 is drawn by a hash of the match, the same on
    every machine. Exact duplicates and walkovers are left out, and so is everything recorded during or after
    play. Columns: player_1, player_2 int64; player_1_won bool; date date32; of player 1 against player 2
    log_rank_difference, positive where player 1 ranks better, null where a rank is unknown, age_difference
    [5 years] and left_hand_difference (-1, 0, 1); surface string.
    """
    raw = _matches(directory)
    winner, loser = raw["winner_id"].to_numpy(), raw["loser_id"].to_numpy()
    won = _draw(raw["tourney_date"].to_numpy(), raw["match_num"].to_numpy(), winner, loser)
    sign = np.where(won, 1.0, -1.0)
    date: ArrowArray = pc.strptime(raw["tourney_date"].cast(pa.string()), format="%Y%m%d", unit="s")
    rank = np.log(_floats(raw, "loser_rank")) - np.log(_floats(raw, "winner_rank"))
    age = (_floats(raw, "winner_age") - _floats(raw, "loser_age")) / 5.0
    left = _is_left_handed(raw, "winner_hand") - _is_left_handed(raw, "loser_hand")
    columns = {
        "date": date.cast(pa.date32()),
        "player_1": pa.array(np.where(won, winner, loser)),
        "player_2": pa.array(np.where(won, loser, winner)),
        "player_1_won": pa.array(won),
        "surface": raw["surface"],
    }
    for name, difference in zip(_DIFFERENCES, (rank, age, left), strict=True):
        columns[name] = pa.array(sign * difference, from_pandas=True)  # NaN becomes null
    table = pa.Table.from_arrays(list(columns.values()), names=list(columns))
    return Dataset(name="tennis_wta", table=sorted_by(table, "date"), mapping=_MAPPING)


def _matches(directory: Path) -> pa.Table:
    lines = raw_bytes(directory, "tennis_wta", "singles_matches.csv").splitlines()
    raw = delimited(b"\n".join(dict.fromkeys(lines)), quotes=True, columns=_COLUMNS)
    walkover: ArrowArray = pc.match_substring(raw["score"], "W/O")
    late: ArrowArray = pc.greater_equal(raw["tourney_date"], pa.scalar(_FIRST_DATE))
    keep: ArrowArray = pc.and_(late, pc.invert(walkover.fill_null(False)))
    return raw.filter(keep)


def _draw(*keys: NDArray[np.int64]) -> Bools:
    """Return a fair coin for each match; the last two keys, the players, may come in either order."""
    *match, first, second = keys
    state = np.zeros(len(first), dtype=np.uint64)
    for key in (*match, np.minimum(first, second), np.maximum(first, second)):
        state = _mix(state + key.astype(np.uint64))
    return (state & np.uint64(1)).astype(np.bool_)


def _mix(state: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the next state of SplitMix64 (Steele, Lea and Flood, 2014), modulo 2^64."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), dtype=np.float64)


def _is_left_handed(table: pa.Table, name: str) -> Floats:
    left: ArrowArray = pc.equal(table[name], pa.scalar("L"))
    return np.asarray(left.fill_null(False).cast(pa.float64()).to_numpy(), dtype=np.float64)
