from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Columns, Floats, Ints, Keys

CHUNKS: int
_Part: TypeAlias = tuple[Ints, Ints, Floats, Ints | None]
_Coefficients: TypeAlias = tuple[Floats, Ints, Floats, Ints | None]

def update(
    rows: object,
    data: object,
    prior: object,
    posterior: object,
    report: object,
    outcome: int,
    method: int,
    tolerance: float,
    max_steps: int,
    threads: int,
) -> None: ...
def learn(
    rows: object,
    data: object,
    prior: object,
    before: object,
    after: object,
    report: object,
    outcome: int,
    tolerance: float,
    max_steps: int,
    threads: int,
) -> None: ...
def update_one(
    mean: Floats,
    precision: Floats,
    x: Floats | NDArray[np.float32],
    y: Floats,
    weight: Floats | None,
    offset: Floats | None,
    new_mean: Floats,
    new_precision: Floats,
    outcome: int,
    method: int,
    tolerance: float,
    max_steps: int,
) -> int: ...
def score(
    rows: object, beliefs: object, mean: Floats, variance: Floats | None, factor: Floats | None, threads: int
) -> int: ...
def draw(
    rows: object,
    beliefs: object,
    keys: Keys,
    scores: Floats,
    factor: Floats | None,
    request: int,
    first: int,
    draws: int,
) -> int: ...
def factor(beliefs: object, factor: Floats, columns: int) -> int: ...
def moments(rows: object, data: object, beliefs: object, out: object, outcome: int, threads: int) -> None: ...
def complete(
    evidence: object, prior: object, belief: object, out: object, columns: int, reverse: bool, threads: int
) -> None: ...
def active_columns(rows: object, known: object | None) -> tuple[Columns, Ints]: ...
def available_instruction_sets() -> Sequence[str]: ...
def instruction_set() -> str: ...
def use_instruction_set(name: str) -> None: ...
def gather_rows(
    parts: list[_Part], kept: Floats | None, at: Ints | None, count: int, columns: int, out: Floats
) -> None:
    """Write the rows of `count` candidates into `out`, float64[count, columns]: 1, then their features.

    A part is (table, number, values, row). table[number] is the column of a feature, below 0 for one that has none;
    number -1 is the last of the table. `row` int64[n] says whose each of float64[n] values is; without it the values
    are those of all candidates, [n], or of each, [count, n]. kept[at], float64[places, columns], is added, nothing
    where `at` is -1. Raises `ValueError` for arrays that do not fit.
    """

def score_gathered(
    parts: list[_Part],
    kept: Floats | None,
    at: Ints | None,
    count: int,
    mean: Floats,
    precision: Floats,
    slots: Ints,
    columns: int,
    full: bool,
    places: Ints | None,
    mean_out: Floats,
    variance_out: Floats | None,
) -> int:
    """Write x . mean and x' precision^-1 x of candidates, or of those at `places`, without making their rows.

    `mean`, `precision` are tables of whole blocks, by slot; `slots` int64[1] or int64[count]. Returns the first slot
    whose precision is not positive definite, -1 if there is none.
    """

def add_linear(parts: list[_Coefficients], kept: Floats | None, at: Ints | None, out: Floats) -> None:
    """Add to `out`, float64[count], kept[at] and the sum of coefficient times value of each candidate.

    Parts as above, with coefficients, float64, for columns.
    """

def request_means(
    fixed: list[_Coefficients],
    kept: Floats | None,
    at: Ints | None,
    intercept: float,
    effects: list[tuple[object, ...]],
    offset: Floats,
    fixed_out: Floats,
    linear_out: Floats,
) -> None:
    """Write what the fixed effect says of candidates, and with `offset` and all effects' means their linear predictors.

    An effect is (parts, kept, mean, precision, slots, columns, full) as of `score_gathered`, or (means,). `at` is that
    of every `kept`. The sums are taken in another order than there: they agree to rounding.
    """

def request_parts(
    effects: list[tuple[object, ...]],
    at: Ints | None,
    places: Ints,
    offset: Floats,
    fixed: Floats,
    widened: Floats | None,
    noise: float,
    out: Floats,
) -> int:
    """Write what is said of the candidates at `places` into `out`, float64[5 + 2 effects, places].

    Its rows are offset, fixed, linear predictor, variance of that with `widened`, its standard deviation with the
    variance `noise` besides, then mean and variance of each effect. An effect is as of `request_means`, or
    (means, variances) of the places. Returns as `score_gathered` does.
    """

def highest(
    names: Sequence[str],
    fixed: list[_Coefficients],
    kept: Floats | None,
    at: Ints | None,
    intercept: float,
    effects: list[tuple[object, ...]],
    offset: Floats,
    noise: float,
    places: Ints,
    versions: Ints,
    out: Floats,
) -> int:
    """Write the places of the candidates with the highest linear predictors, first to last, and what is said of them.

    An effect is (parts, kept, mean, precision, columns, full, index, asked, version, entity): `index` a `Names` with
    the slots of entities, `asked` and `version` by slot what is set to true and what is read of it, `entity` the name
    of that of all candidates, None where `names` are the entities. `versions` is int64[effects, places]. `out`,
    float64[6 + 2 effects, places], is that of `request_parts` with the linear predictors as of `request_means` before
    the effects. Returns 0; how many entities lack a slot, in which case nothing is written; or -1 less a slot whose
    precision is not positive definite.
    """
