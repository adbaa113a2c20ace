"""Steps in the order of time -> fewer, larger steps that come to the same where state is kept by entity.

Two rows without an entity in common do not wait for each other: what one teaches, the other never asks for. So rows
are put into waves. A row is scored in the first wave after all that its entities learn before it, and learned in the
first wave after its entities' earlier scores and lessons; what an entity learns in one step stays together in one
wave. A stream of 100,000 rows and 50,000 times becomes a few thousand calls, and every number stays the same.
"""

from collections.abc import Sequence

import numpy as np

from nearline.arrays import Ints
from nearline.evaluate.replay import Step


def in_waves(steps: Sequence[Step], entities: Sequence[Ints]) -> list[Step]:
    """The steps as waves.

    `entities` : of each effect int64[n], the entity of each row of the stream, -1 where it has none.
    """
    total, keys = 0, []
    for codes in entities:
        keys.append(np.where(codes >= 0, codes + total, -1))
        total += int(codes.max(initial=-1)) + 1
    of_row: list[list[int]] = np.stack(keys, axis=1).tolist() if keys else []
    last_lesson, last_touch = [-1] * (total + 1), [-1] * (total + 1)  # the last place is of rows of no entity
    scored_in: dict[int, int] = {}
    learn: list[list[int]] = []
    score: list[list[int]] = []
    for step in steps:
        for rows in _connected(step.learn.tolist(), of_row):
            touched = {key for row in rows for key in of_row[row] if key >= 0}
            wave = 1 + max(
                max((last_touch[key] for key in touched), default=-1),
                *(scored_in.pop(row, -1) for row in rows),
            )
            _add(learn, wave, rows)
            for key in touched:
                last_lesson[key] = last_touch[key] = wave
        for row in step.score.tolist():
            own = [key for key in of_row[row] if key >= 0]
            wave = max((last_lesson[key] for key in own), default=0)
            wave = max(wave, 0)  # within a wave lessons come before scores
            _add(score, wave, [row])
            scored_in[row] = wave
            for key in own:
                last_touch[key] = max(last_touch[key], wave)
    count = max(len(learn), len(score))
    learn += [[] for _ in range(count - len(learn))]
    score += [[] for _ in range(count - len(score))]
    return [
        Step(np.array(lesson, dtype=np.int64), np.array(rows, dtype=np.int64))
        for lesson, rows in zip(learn, score, strict=True)
    ]


def _add(waves: list[list[int]], wave: int, rows: list[int]) -> None:
    while len(waves) <= wave:
        waves.append([])
    waves[wave] += rows


def _connected(rows: list[int], of_row: list[list[int]]) -> list[list[int]]:
    """The rows in parts that share no entity, each in the order given; rows of no entity in one part."""
    if len(rows) == 1:
        return [rows]
    parent: dict[int, int] = {-1: -1}
    for row in rows:
        keys = [key for key in of_row[row] if key >= 0]
        for key in keys:
            parent.setdefault(key, key)
            parent[_root(key, parent)] = _root(keys[0], parent)
    parts: dict[int, list[int]] = {}
    for row in rows:
        parts.setdefault(_root(max(of_row[row], default=-1), parent), []).append(row)
    return list(parts.values())


def _root(key: int, parent: dict[int, int]) -> int:
    while parent[key] != key:
        parent[key] = parent[parent[key]]
        key = parent[key]
    return key
