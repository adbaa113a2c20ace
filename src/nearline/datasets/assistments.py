"""ASSISTments 2009: 325,637 answers of 4,151 students to exercises on 110 skills."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from nearline.arrays import Ints
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import Dataset, raw_bytes
from nearline.errors import DataError

_FILES = ("assist2009_updated_train.csv", "assist2009_updated_test.csv")
_COUNTS = ("log_attempts", "log_right", "log_wrong")
_MAPPING = TableMapping(
    response="correct",
    entities={"student": "student", "skill": "skill"},
    bags={"global": _COUNTS, "student": _COUNTS, "skill": _COUNTS},
)


def load(directory: Path) -> Dataset:
    """Return the answers student by student, each student's in their order; there are no times.

    Columns: student, skill int64; position int64, the number of the student's answers before; correct int64
    (0 or 1); log_attempts, log_right, log_wrong: log(1 + the number of the student's earlier answers
    on the skill: of all, of the right, of the wrong ones).
    """
    sequences = [sequence for file in _FILES for sequence in _sequences(directory, file)]
    lengths = np.array([len(skills) for skills, _ in sequences])
    student = np.repeat(np.arange(len(sequences)), lengths)
    skill = np.concatenate([skills for skills, _ in sequences])
    correct = np.concatenate([answers for _, answers in sequences])
    position = np.arange(len(student)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    attempts, right = _earlier(student, skill, correct)
    columns = (
        student,
        skill,
        position,
        correct,
        np.log1p(attempts),
        np.log1p(right),
        np.log1p(attempts - right),
    )
    names = ["student", "skill", "position", "correct", *_COUNTS]
    table = pa.Table.from_arrays([pa.array(column) for column in columns], names=names)
    return Dataset(name="assistments", table=table, mapping=_MAPPING)


def _sequences(directory: Path, file: str) -> list[tuple[Ints, Ints]]:
    """Return skills and answers of each student: three lines in the file, the first their number."""
    lines = raw_bytes(directory, "assistments", file).decode().split()
    sequences = []
    for number, (count, skills, answers) in enumerate(zip(lines[::3], lines[1::3], lines[2::3], strict=True)):
        both = _integers(skills), _integers(answers)
        if not len(both[0]) == len(both[1]) == int(count):
            lengths = f"{len(both[0])} skills and {len(both[1])} answers"
            raise DataError(f"{file}, line {3 * number + 1}: expected {count} of each, found {lengths}")
        sequences.append(both)
    return sequences


def _integers(line: str) -> Ints:
    return np.array(line.rstrip(",").split(","), dtype=np.int64)


def _earlier(student: Ints, skill: Ints, correct: Ints) -> tuple[Ints, Ints]:
    """Return how many answers the student gave on the skill before, and how many of them were right."""
    pair = student * (skill.max(initial=0) + 1) + skill
    order = np.argsort(pair, kind="stable")
    starts = np.flatnonzero(np.diff(pair[order], prepend=-1))
    first = np.repeat(starts, np.diff(starts, append=len(pair)))
    right_before = np.cumsum(correct[order]) - correct[order]
    attempts, right = np.empty_like(pair), np.empty_like(pair)
    attempts[order] = np.arange(len(pair)) - first
    right[order] = right_before - right_before[first]
    return attempts, right
