"""CPU time of the join per event, decoding included: state in memory and in LMDB, runs of 5,000 events.

Half of the impressions are answered, on average a tenth of the window later; the join holds 100,000 impressions open
and as many closed ones in memory of what came, in the steady state that is measured.
"""

import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.measurement import Bar, Measurement
from nearline.environment import Environment, Transaction
from nearline.errors import LogError
from nearline.events.impression import Event, Features, Feedback, Impression
from nearline.events.wire import encode_event
from nearline.stream.join import Join
from nearline.stream.join_lmdb import JOIN_TABLES, JoinTables, LmdbJoinState
from nearline.stream.join_routes import route_by_entity
from nearline.stream.join_settings import JoinSettings
from nearline.stream.join_state import MemoryJoinState

RUN, OPEN, FEATURES = 5_000, 100_000, 20
EFFECTS = {"per-user": "user", "per-item": "item"}


def events(count: int, seed: int = 0) -> list[Event]:
    """`count` events in the order of their time, an impression every millisecond."""
    rng = random.Random(seed)  # noqa: S311
    drawn: list[Event] = []
    for time_ms in range(count):
        entities = {"user": f"u{rng.randrange(20_000)}", "item": f"i{rng.randrange(2_000)}"}
        features: dict[str, Features] = {
            "context": {f"f{number}": rng.random() for number in range(FEATURES)}
        }
        name = f"{rng.getrandbits(64):016x}"
        drawn.append(Impression(name, time_ms, entities, features))
        if rng.random() < 0.5:
            later = time_ms + int(rng.expovariate(10 / OPEN))
            drawn.append(Feedback(name, later, 1.0, id=f"{rng.getrandbits(64):016x}"))
    drawn.sort(key=lambda event: event.time_ms)
    return drawn[:count]


Push = Callable[[int, list[bytes]], object]


def microseconds_per_event(push: Push, records: list[bytes], warm: int) -> float:
    """Median CPU time of a run, per event, after `warm` of them."""
    spent = []
    for begin in range(0, len(records), RUN):
        part = records[begin : begin + RUN]
        start = time.process_time()
        push(begin + 1, part)
        spent.append(time.process_time() - start)
    return median(spent[warm:]) * 1e6 / RUN


def run(quick: bool = False) -> list[Measurement]:
    """Measure both states."""
    runs = 70 if quick else 120
    records = [encode_event(event) for event in events(runs * RUN)]
    join = Join(JoinSettings(window_ms=OPEN, allowed_lateness_ms=5_000), route_by_entity(EFFECTS, 4))
    memory = MemoryJoinState()
    warm = 2 * runs // 3

    def push_memory(first: int, part: list[bytes]) -> None:
        join.push(first, part, memory)

    found = [_figure("in memory", microseconds_per_event(push_memory, records, warm), 4.0)]
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment(Path(folder), JOIN_TABLES, refusal=LogError)
        tables = JoinTables.of(environment)

        def push_lmdb(first: int, part: list[bytes]) -> None:
            def work(transaction: Transaction) -> None:
                join.push(first, part, LmdbJoinState(tables, transaction))

            environment.write(work)

        found.append(
            _figure("in LMDB, a durable commit each", microseconds_per_event(push_lmdb, records, warm), 8.0)
        )
        environment.close()
    return found


def _figure(where: str, value: float, bar: float) -> Measurement:
    name = f"join: CPU time per event, state {where}, runs of {RUN:,}"
    return Measurement(name, value, "us", Bar(bar, "at most"))


if __name__ == "__main__":
    for line in run(quick=True):
        print(line)
