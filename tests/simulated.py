"""Rows simulated from known coefficients, small enough to train on in milliseconds."""

from dataclasses import replace

import numpy as np
import pyarrow as pa

from nearline.batch.descent import fit_game
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.batch.tables import TableMapping, examples_from_table
from nearline.model.examples import Examples
from nearline.posterior.outcomes import Outcome

MAPPING = TableMapping(
    "y",
    weight="weight",
    offset="offset",
    entities={"user": "user", "film": "film"},
    bags={"b": ("x", "genre")},
)
USER = RandomSettings("per-user", "user", ("b",))
FILM = RandomSettings("per-film", "film", ("b",))
SETTINGS = TrainingSettings(fixed=FixedSettings(("b",)), random=(USER, FILM), sweeps=3, threads=1)
NORMAL = replace(SETTINGS, outcome=Outcome.NORMAL)


def table(
    rows: int, *, users: int = 10, outcome: Outcome = Outcome.BERNOULLI, seed: int = 0, **columns
) -> pa.Table:
    """Rows with columns y, weight, offset, user, film, x, genre; `columns` replaces or adds some."""
    rng, truth = np.random.default_rng(seed), np.random.default_rng(7).normal(size=(1000, 2))
    user, film, genre = rng.integers(users, size=rows), rng.integers(7, size=rows), rng.integers(3, size=rows)
    x, offset = rng.normal(size=rows), 0.1 * rng.normal(size=rows)
    linear = (
        offset - 0.2 + 0.5 * x + 0.8 * truth[user, 0] + 0.4 * truth[user, 1] * x + 0.5 * truth[film + 500, 0]
    )
    match outcome:
        case Outcome.BERNOULLI:
            y = (rng.random(rows) < 1.0 / (1.0 + np.exp(-linear))).astype(float)
        case Outcome.NORMAL:
            y = linear + 0.5 * rng.normal(size=rows)
        case Outcome.POISSON:
            y = rng.poisson(np.exp(0.5 * linear)).astype(float)
    made = {
        "y": y,
        "weight": np.ones(rows),
        "offset": offset,
        "user": pa.array([f"u{i}" for i in user]),
        "film": pa.array([f"f{i}" for i in film]),
        "x": x,
        "genre": pa.array([f"g{i}" for i in genre]),
    }
    return pa.table(made | columns)


def examples(rows: int, **how) -> Examples:
    """`table` as examples."""
    return examples_from_table(table(rows, **how), MAPPING)


def trained(rows: int = 150, settings: TrainingSettings = SETTINGS, **how):
    """A model of simulated rows, and the rows."""
    learned = examples(rows, outcome=settings.outcome, **how)
    return fit_game(learned, settings).model, learned


def assert_same_effect(one, other) -> None:
    """Bit for bit the same random effect."""
    assert one.names.to_pylist() == other.names.to_pylist()
    assert one.registry == other.registry
    np.testing.assert_array_equal(one.row_count, other.row_count)
    np.testing.assert_array_equal(one.prior.mean, other.prior.mean)
    np.testing.assert_array_equal(one.prior.precision, other.prior.precision)
    np.testing.assert_array_equal(one.evidence.start, other.evidence.start)
    np.testing.assert_array_equal(one.evidence.column, other.evidence.column)
    np.testing.assert_array_equal(one.evidence.mean, other.evidence.mean)
    np.testing.assert_array_equal(one.evidence.precision, other.evidence.precision)


def assert_same_model(one, other) -> None:
    """Bit for bit the same model."""
    assert one.noise_variance == other.noise_variance
    np.testing.assert_array_equal(one.fixed.coefficients, other.fixed.coefficients)
    np.testing.assert_array_equal(one.fixed.precision, other.fixed.precision)
    assert [effect.name for effect in one.random] == [effect.name for effect in other.random]
    for mine, theirs in zip(one.random, other.random, strict=True):
        assert_same_effect(mine, theirs)


def evidence_of(effect, name: str):
    """What is kept of one entity: columns, shift, precision."""
    place = effect.names.to_pylist().index(name)
    part = effect.evidence.belief(place)
    return effect.evidence.columns_of(place), part.mean, part.precision
