from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nearline.arrays import Columns, Floats, Ints, Keys

CHUNKS: int

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
