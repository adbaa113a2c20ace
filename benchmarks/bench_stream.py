"""The whole path from events to durable beliefs: throughput on one core, peers, and how fresh beliefs are.

Memory over five million events is a module of its own, `soak_memory`.
"""

import numpy as np

from benchmarks.measurement import Bar, Measurement
from benchmarks.offered import freshness
from benchmarks.path_stages import clocked
from benchmarks.peers import lambda_learner_of_pairs, river
from benchmarks.shown_pairs import pairs, source
from benchmarks.whole_path import AT_CLOSE, AT_FEEDBACK, through_the_path


def _throughput(quick: bool) -> list[Measurement]:
    count = 100_000 if quick else 600_000
    shown = pairs(20_000 if quick else 50_000)
    peers = {
        "River, a LogisticRegression of each user and each film": river(shown),
        "lambda-learner, mini-batches of 20": lambda_learner_of_pairs(shown),
    }
    ours = through_the_path(count, AT_FEEDBACK).per_second
    found = [
        Measurement(
            "stream: the whole path on one core, an answer learned when it comes",
            ours,
            "events/s",
            Bar(50_000.0),
            f"an impression and its feedback are two events; mini-batches of 8, durable commits; {source()}",
        ),
        Measurement(
            "stream: the same, learned when the window closes",
            through_the_path(count, AT_CLOSE).per_second,
            "events/s",
        ),
    ]
    found += _stages(count)
    return found + [
        Measurement(
            f"stream: the whole path, beside the learning alone of {name.split(',')[0]}",
            ours / peer,
            "x",
            baseline=f"{name}: from dictionaries or arrays made before, no log, join, variance of others or disk",
            ours=f"{ours:,.0f} events/s",
            peer=f"{peer:,.0f} events/s",
        )
        for name, peer in peers.items()
    ]


def _stages(count: int) -> list[Measurement]:
    """Where the time goes, in passes of their own."""
    found = []
    for when, settings in (("when it comes", AT_FEEDBACK), ("when the window closes", AT_CLOSE)):
        with clocked() as seconds:
            through_the_path(count, settings)
        found += [
            Measurement(f"stream: learned {when}: {stage}", 1e6 * spent / count, "us/event")
            for stage, spent in seconds.items()
        ]
    return found


def _freshness(quick: bool) -> list[Measurement]:
    found = freshness(5.0 if quick else 20.0)
    how = f"offered {found.offered:,.0f} events/s, appended {found.achieved:,.0f}; writer, worker and reader processes"
    bars = {50: 150.0, 90: None, 99: 1_000.0, 100: None}
    return [
        Measurement(
            f"stream: feedback to readable belief, {'longest' if share == 100 else f'{share} % within'}",
            float(np.percentile(found.delay_ms, share)),
            "ms",
            None if bar is None else Bar(bar, "at most"),
            how,
        )
        for share, bar in bars.items()
    ]


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module.

    Freshness is of beliefs learned when the answer comes. With the join's default an impression is learned when its
    window closes: the window and the allowed lateness are to be added, whatever the speed.
    """
    return [*_throughput(quick), *_freshness(quick)]


if __name__ == "__main__":
    for line in run(quick=True):
        print(line)
