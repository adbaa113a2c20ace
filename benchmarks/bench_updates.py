"""One mini-batch of one entity: CPU time beside lambda-learner, bayesianbandits, scikit-learn and NumPy.

Problems as in `benchmarks.problems`, one core, all works interleaved in one process. Ours learns 64
entities in one call of `update_many`; the peers learn one entity a call, a few in rotation, from data
they have already indexed. Where the optimum is the same (lambda-learner, bayesianbandits, NumPy) the
means are compared before timing.
"""

import statistics
from collections.abc import Callable
from itertools import cycle

import numpy as np

from benchmarks.measurement import Bar, Measurement, interleave, microseconds, spread, times_faster
from benchmarks.padded_newton import learn_padded, square_precisions
from benchmarks.peers import Update, bayesian_bandits, lambda_learner, scikit_learn
from benchmarks.problems import Stream, dense_stream, sparse_stream
from nearline.posterior import Outcome, update_one

ENTITIES, PEER_ENTITIES, ACTIVE = 64, 12, 10
DENSE_BARS = {(32, 16): 180.0, (64, 64): 40.0, (128, 256): 12.0}
SPARSE_BARS = {1: 900.0, 16: 350.0, 64: 60.0, 256: 16.0}
SINGLES = ((8, 1), (16, 16), (32, 1), (32, 16))
AGREEMENT = 1e-4


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    rounds = 3 if quick else 9
    found = []
    for (d, n), bar in DENSE_BARS.items():
        found += dense_updates(d, n, bar, rounds)
    for d in (256, 32):
        for n, bar in SPARSE_BARS.items():
            found += sparse_updates(d, n, bar, rounds)
    for d, n in SINGLES:
        found.append(single_update(d, n, rounds))
    found += ragged_batch(2_000 if quick else 20_000, rounds=3 if quick else 5)
    return found


def dense_updates(d: int, n: int, bar: float, rounds: int) -> list[Measurement]:
    """Full precision, dense rows, against all three peers."""
    stream = dense_stream(np.random.default_rng(d + n), np.full(ENTITIES, n), d)
    peers = {
        "lambda-learner": lambda_learner(stream, PEER_ENTITIES),
        "bayesianbandits": bayesian_bandits(stream, PEER_ENTITIES),
        "scikit-learn": scikit_learn(stream, PEER_ENTITIES),
    }
    apart = {name: disagreement(stream, peers[name]) for name in ("lambda-learner", "bayesianbandits")}
    seconds = compare(stream, peers, rounds)
    what = f"dense, full precision, d={d}, n={n}"
    ours = seconds["nearline"]
    return [
        times_faster(
            f"{what}: over lambda-learner",
            ours,
            seconds["lambda-learner"],
            f"same problem, L-BFGS; {apart['lambda-learner']}",
            Bar(bar),
        ),
        times_faster(
            f"{what}: over bayesianbandits",
            ours,
            seconds["bayesianbandits"],
            f"BayesianGLM.partial_fit, Newton on LAPACK; same problem, {apart['bayesianbandits']}",
        ),
        times_faster(
            f"{what}: over scikit-learn",
            ours,
            seconds["scikit-learn"],
            "LogisticRegression warm-started; a centred ridge in place of the belief, no precision after",
        ),
    ]


def sparse_updates(d: int, n: int, bar: float, rounds: int) -> list[Measurement]:
    """Diagonal precision, 10 active features a row, against lambda-learner."""
    stream = sparse_stream(np.random.default_rng(d + n), ENTITIES, n, d, ACTIVE)
    peer = lambda_learner(stream, PEER_ENTITIES)
    apart = disagreement(stream, peer)
    seconds = compare(stream, {"lambda-learner": peer}, rounds)
    what = f"sparse, diagonal precision, d={d}, n={n}"
    return [
        times_faster(
            f"{what}: over lambda-learner",
            seconds["nearline"],
            seconds["lambda-learner"],
            f"same problem, L-BFGS; {apart}",
            Bar(bar),
        )
    ]


def compare(stream: Stream, peers: dict[str, Update], rounds: int) -> dict[str, list[float]]:
    """CPU seconds per update, ours and each peer's, by round."""

    def all_of(update: Update) -> Callable[[], object]:
        return lambda: [update(e) for e in range(PEER_ENTITIES)]

    works = {name: all_of(update) for name, update in peers.items()}
    seconds = interleave({"nearline": stream.learn, **works}, rounds)
    per_call = {name: ENTITIES if name == "nearline" else PEER_ENTITIES for name in seconds}
    return {name: [s / per_call[name] for s in values] for name, values in seconds.items()}


def disagreement(stream: Stream, update: Update) -> str:
    """How far the peer's means are from ours at most, in words."""
    ours = stream.learn()
    apart = [
        float(np.max(np.abs(update(e) - ours.mean[ours.start[e] : ours.start[e + 1]])))
        for e in range(PEER_ENTITIES)
    ]
    agreeing = sum(a < AGREEMENT for a in apart)
    return f"means within {AGREEMENT:g} of ours for {agreeing} of {PEER_ENTITIES} (worst {max(apart):.0e})"


def single_update(d: int, n: int, rounds: int) -> Measurement:
    """One call of `update_one` from Python, the entities in rotation."""
    stream = dense_stream(np.random.default_rng(d + n), np.full(ENTITIES, n), d)
    calls = cycle([(stream.prior.belief(e), *stream.batch(e)) for e in range(ENTITIES)])

    def one() -> None:
        belief, x, y = next(calls)
        update_one(belief, x, y, Outcome.BERNOULLI)

    seconds = interleave({"one": one}, rounds)["one"]
    return Measurement(
        name=f"one update through Python, d={d}, n={n}",
        value=statistics.median(seconds) * 1e6,
        unit="us",
        bar=Bar(20.0, "at most"),
        ours=microseconds(seconds),
        spread=spread(seconds),
    )


def ragged_batch(entities: int, rounds: int) -> list[Measurement]:
    """Uneven entities, about 20 rows each and d = 32, against NumPy padded to powers of two."""
    rng = np.random.default_rng(20)
    stream = dense_stream(rng, rng.geometric(1.0 / 20.0, entities), 32)
    prior = square_precisions(stream)
    ours, (mean, _) = stream.learn(), learn_padded(stream, prior)
    apart = float(np.max(np.abs(ours.mean.reshape(mean.shape) - mean)))
    seconds = interleave({"nearline": stream.learn, "numpy": lambda: learn_padded(stream, prior)}, rounds)
    per_entity = {name: [s / entities for s in values] for name, values in seconds.items()}
    return [
        times_faster(
            f"ragged batch of {entities:,} entities, d=32, about 20 rows each: over batched NumPy",
            per_entity["nearline"],
            per_entity["numpy"],
            f"Newton in padded power-of-two buckets, same tolerance; means within {apart:.0e}",
            Bar(4.0),
        )
    ]
