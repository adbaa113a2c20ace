"""MovieLens ratings from the first one on, by River's protocol: priors are weighed while the stream is walked.

Nothing is trained before, and no row is predicted by what was chosen with it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nearline import datasets
from nearline.arrays import Floats
from nearline.batch.tables import examples_from_table
from nearline.datasets.raw import raw_bytes
from nearline.evaluate.choose import row_loss
from nearline.evaluate.metrics import mae, rmse
from nearline.evaluate.online import OnlineLevel, OnlineSettings
from nearline.evaluate.replay import Stream, replay
from nearline.evaluate.stream_effects import EffectsOfStream
from nearline.model.effects import FixedCoefficients, RandomEffect, design
from nearline.model.examples import EntityColumn, Examples
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.evidence import no_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome

SPREADS = (1.0, 0.3, 0.1)
"""Factors on the prior covariances of users and films: somebody who has seen no rating knows none to be better."""


def ratings(directory: Path) -> dict[str, Any]:
    """MovieLens ratings as Normal outcomes.

    Sorted by time, ties in the order of the file and learned one after the other; predictions held to 1..5. A random
    effect of one entity, everyone, stands for the shared model, and nothing is forgotten. Level 3 walks the stream
    once for each of `SPREADS`, and the predictions are averaged by what came of them so far.
    """
    loaded = datasets.load("movielens100k", directory)
    examples = examples_from_table(
        loaded.table, replace(loaded.mapping, response_above=None), source="ratings"
    )
    stream = Stream.of(in_file_order(examples, loaded.table, directory))
    model = nothing_known(stream.examples, {"everyone": "global", "user": "user", "film": "film"}, mean=3.0)
    shared, y, predicted, found = EffectsOfStream(stream, model, {}), stream.examples.response, [], {}
    began = time.process_time()
    for spread in SPREADS:
        level = OnlineLevel(
            stream, model, OnlineSettings(spread={"user": spread, "film": spread}), shared=shared
        )
        predicted.append(np.clip(replay(stream, [level])[level.name], 1.0, 5.0))
        found[str(spread)] = errors(y, predicted[-1])
        print(f"    priors times {spread:g}: {found[str(spread)]}", flush=True)
    mean, share = averaged(y, predicted, noise_variance=1.0)
    return {
        **errors(y, mean),
        "spreads": found,
        "settled": int(np.flatnonzero(share.max(axis=0) < 0.99)[-1]) + 1,
        "seconds": round(time.process_time() - began, 1),
    }


def errors(y: Floats, predicted: Floats) -> dict[str, float]:
    """Mean absolute and root mean squared error."""
    return {"mae": mae(y, predicted), "rmse": rmse(y, predicted)}


def averaged(y: Floats, predicted: Sequence[Floats], *, noise_variance: float) -> tuple[Floats, Floats]:
    """The average prediction of each row, float64[n], and the share of each in it, float64[predictions, n].

    Bayesian model averaging where each alternative says that a response is Normal about its prediction: the share is in
    proportion to exp(-sum of squared errors / (2 noise variance)) on the rows before, equal at first. So it depends on
    the past alone (Dawid 1984, "Statistical theory: the prequential approach", doi:10.2307/2981683).
    """
    loss = np.stack([row_loss(Outcome.NORMAL, y, one) for one in predicted]) / noise_variance
    before = np.cumsum(np.insert(loss[:, :-1], 0, 0.0, axis=1), axis=1)
    share = np.exp(before.min(axis=0) - before)
    share /= share.sum(axis=0)
    return np.asarray((share * np.stack(predicted)).sum(axis=0)), share


def nothing_known(examples: Examples, bags: Mapping[str, str], mean: float) -> GameModel:
    """A model that expects `mean` of every row; intercepts have variance 1, other coefficients 0.1, the noise 1."""
    random = []
    for kind, bag in bags.items():
        registry = ColumnRegistry(intercept=True)
        columns = design(registry, (bag,), examples, grow=True).shape[1]
        precision = np.diag(np.append(1.0, np.full(columns - 1, 10.0)))
        prior, evidence = Gaussian(np.zeros(columns), precision), no_evidence(0, full=True)
        none = pa.array([], pa.string())
        random.append(
            RandomEffect(kind, kind, (bag,), registry, prior, evidence, none, np.zeros(0, np.int64))
        )
    fixed = FixedCoefficients((), ColumnRegistry(intercept=True), np.array([mean]))
    return GameModel(Outcome.NORMAL, fixed, tuple(random))


def in_file_order(examples: Examples, table: pa.Table, directory: Path) -> Examples:
    """The ratings sorted by time alone, the rows of one second a millisecond apart, with everyone as an entity."""
    lines = raw_bytes(directory, "ml100k", "u.data").splitlines()
    place = {tuple(line.split(b"\t")[:2]): number for number, line in enumerate(lines)}
    pairs = zip(table["user_id"].to_pylist(), table["film_id"].to_pylist(), strict=True)
    at = np.array([place[str(user).encode(), str(film).encode()] for user, film in pairs])
    assert examples.time_ms is not None
    examples = examples.take(np.lexsort((at, examples.time_ms)))
    time_ms, number = examples.time_ms, np.arange(len(at))
    assert time_ms is not None
    new = np.append(True, time_ms[1:] != time_ms[:-1])
    time_ms = time_ms + number - np.maximum.accumulate(np.where(new, number, 0))
    everyone = EntityColumn(np.zeros(len(at), dtype=np.int32), pa.array(["everyone"]))
    return replace(examples, time_ms=time_ms, entities={**examples.entities, "everyone": everyone})
