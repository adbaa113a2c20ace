"""The cache of feature functions: a function of 5 ms, requests as Zipf has them, a generation switch in the middle.

`python -m benchmarks.bench_feature_cache` draws docs/feature-cache.svg. Times are wall time: the function sleeps.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import final

import numpy as np

from benchmarks.measurement import Bar, Measurement
from benchmarks.serving import deploy
from benchmarks.standalone import standalone
from nearline.arrays import Floats
from nearline.evaluate.freshness_figures import Line, lines_figure
from nearline.events import MemoryLog
from nearline.serve import Candidate, FeatureFunction, Scorer, ScoreRequest, ScorerSettings
from nearline.store.generations import Status
from nearline.store.seam import ModelStore
from nearline.wiring import open_store

DOCS = Path(__file__).parent.parent / "docs"
SECONDS, ITEMS, CANDIDATES = 0.005, 1_000, 10
EVERY = 10
"""Requests a point of the figure."""


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    return measured(quick)[0]


def measured(quick: bool) -> tuple[list[Measurement], Floats, list[Line]]:
    """The figures; where the points lie, and what each way of serving took there, in milliseconds."""
    requests = 400 if quick else 1_600
    rng = np.random.default_rng(3)
    asked = [[f"i{i % ITEMS}" for i in rng.zipf(1.2, CANDIDATES)] for _ in range(requests)]
    half = requests // 2
    with tempfile.TemporaryDirectory() as name:
        deploy(Path(name), users=100, items=ITEMS)
        store = open_store(Path(name) / "stream" / "store")
        refilled, missed = _with_cache(store, asked, half, refills=True)
        emptied, missed_empty = _with_cache(store, asked, half, refills=False)
        computed = _without(store, asked[:: requests // 40])
        store.close()
    after = refilled[half:]
    seen = {name for names in asked[:half] for name in names}
    new = len({name for names in asked[half : half + 50] for name in names} - seen)
    what = "feature function of 5 ms, Zipf"
    found = [
        Measurement(
            f"{what}: p50 without the cache over that with it",
            float(np.median(computed) / np.median(after)),
            "x",
            Bar(10.0),
            "computed every time",
            f"{np.median(after):.2f} ms",
            f"{np.median(computed):.1f} ms",
        ),
        Measurement(
            f"{what}: computed in the 50 requests after a generation switch",
            float(missed[half : half + 50].sum()),
            "",
            Bar(float(new), "at most"),
            "candidates never asked for before: as many as without a switch",
        ),
        Measurement(
            f"{what}: the same, were the cache empty at the switch",
            float(missed_empty[half : half + 50].sum()),
            "",
        ),
    ]
    at = np.arange(EVERY, requests + 1, EVERY, dtype=np.float64)
    lines = [
        Line("refilled", _by_tens(refilled)),
        Line("emptied", _by_tens(emptied)),
        Line("no cache", np.full(len(at), np.median(computed))),
    ]
    return found, at, lines


@final
class Computing:
    """A feature function that takes its time, and counts."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, name: str, *_: object) -> dict[str, float]:
        self.times += 1
        time.sleep(SECONDS)
        return {"f0": float(len(name))}


def _with_cache(
    store: ModelStore, asked: Sequence[Sequence[str]], half: int, *, refills: bool
) -> tuple[Floats, Floats]:
    """Milliseconds of each request, and how often the function was called in it; after `half`, another version.

    Without `refills` the cache of the second half is a new one, as after a restart.
    """
    compute = Computing()
    function = FeatureFunction("of_item", compute, version=lambda generation: generation)
    taken, calls = [], []
    scorer = Scorer(store, MemoryLog(), ScorerSettings(), functions=[function])
    for i, names in enumerate(asked):
        if i == half:
            _switch(store)
            if refills:
                scorer.follow()
            else:
                scorer.close()
                scorer = Scorer(store, MemoryLog(), ScorerSettings(), functions=[function])
        before = compute.times
        taken.append(_timed(scorer, names))
        calls.append(compute.times - before)
    scorer.close()
    return np.array(taken), np.array(calls, dtype=np.float64)


def _without(store: ModelStore, asked: Sequence[Sequence[str]]) -> Floats:
    """Milliseconds of each request where no two keys are the same."""
    keys = count()
    function = FeatureFunction("of_item", Computing(), key=lambda *_: next(keys))
    with Scorer(store, MemoryLog(), ScorerSettings(), functions=[function]) as scorer:
        return np.array([_timed(scorer, names) for names in asked])


def _switch(store: ModelStore) -> None:
    live = store.live()
    assert live is not None
    number = store.create(store.model(live), created_ms=0).number
    store.mark(number, Status.CANDIDATE)
    store.switch(number)


def _timed(scorer: Scorer, names: Sequence[str]) -> float:
    begin = time.perf_counter()
    scorer.score(ScoreRequest([Candidate(name) for name in names], {"user": "u1"}))
    return (time.perf_counter() - begin) * 1e3


def _by_tens(values: Floats) -> Floats:
    means: Floats = values.reshape(-1, EVERY).mean(axis=1)
    return means


def main() -> None:
    """Measure, print, and draw."""
    found, at, lines = measured(quick=False)
    for one in found:
        sys.stdout.write(f"{one}\n")
    svg = lines_figure(
        at,
        lines,
        labels=("requests; the generation is switched half way", "ms a request, mean of 10"),
        description="Time of a request with a feature function of 5 ms, with a cache and without",
        identity="feature-cache",
    )
    (DOCS / "feature-cache.svg").write_text(standalone(svg), encoding="utf-8")


if __name__ == "__main__":
    main()
