"""The store: processor time per record of the codec, of commits to LMDB and of reads from it, one core.

Records hold evidence of 20 columns with a full precision in float64 (1,968 bytes), or of 21 in float32, 5,000 at a
time; "ragged" ones 1 to 31 columns. Commits are durable; the time the disk takes is not processor time. Beside it, the
same values put and got by the lmdb package alone, sorted by key, in one transaction.
"""

import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa

from benchmarks.measurement import Bar, Measurement, interleave, microseconds, spread
from nearline.events.partition import partitions_of
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.blocks import Blocks, packed_starts
from nearline.posterior.evidence import no_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome
from nearline.store.codec import decode_records, encode_records
from nearline.store.embedded import EmbeddedStore
from nearline.store.records import Records

AT_ONCE = 5_000
EFFECT = "per-user"


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    rounds = 3 if quick else 9
    ragged = np.random.default_rng(1).integers(1, 32, AT_ONCE)
    return [
        *codec("20 columns, full", records(np.full(AT_ONCE, 20)), rounds, bar=2.0),
        *codec("21 columns, full", records(np.full(AT_ONCE, 21)), rounds, bar=2.0),
        *codec("21 columns, full, float32", records(np.full(AT_ONCE, 21)), rounds, single=True, bar=2.0),
        *codec("ragged, 1 to 31 columns, full", records(ragged), rounds, bar=2.0),
        *embedded(rounds, batches=2 if quick else 10),
    ]


def records(sizes: np.ndarray) -> Records:
    """Version 1 of records with so many columns each."""
    rng = np.random.default_rng(0)
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    packed = packed_starts(start)
    column = np.concatenate([np.arange(d, dtype=np.int32) for d in sizes])
    ones = np.ones(len(sizes), dtype=np.int64)
    evidence = Blocks(
        start, rng.normal(size=int(start[-1])), rng.normal(size=int(packed[-1])), column, packed
    )
    return Records(ones, ones, ones, ones, evidence)


def codec(
    what: str, given: Records, rounds: int, *, single: bool = False, bar: float | None = None
) -> list[Measurement]:
    """Encoding and decoding of the records."""
    values = encode_records(given, single=single)
    works: dict[str, Callable[[], object]] = {
        "encode": lambda: encode_records(given, single=single),
        "decode": lambda: decode_records(values, full=True),
    }
    seconds = interleave(works, rounds)
    return [per_record(f"{name} a record, {what}", seconds[name], bar) for name in works]


def embedded(rounds: int, batches: int) -> list[Measurement]:
    """Commits and reads of batches, entities in random order, beside the lmdb package alone."""
    names = [f"user-{i}" for i in np.random.default_rng(2).permutation(batches * AT_ONCE)]
    parts = [names[i : i + AT_ONCE] for i in range(0, len(names), AT_ONCE)]
    given = records(np.full(AT_ONCE, 20))
    values = encode_records(given)
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "store") as store:
        number = store.create(one_effect(), created_ms=0).number
        plain = lmdb.open(os.path.join(folder, "plain"), map_size=1 << 34, metasync=False)  # noqa: PTH118
        turn, plain_turn, reads, plain_reads = count(), count(), count(), count()

        def put() -> None:
            i = next(turn)
            version = np.full(AT_ONCE, 1 + i // batches)
            with store.writing(number, 0) as txn:
                one = Records(version, given.position, given.as_of_ms, given.rows, given.evidence)
                txn.put_many(EFFECT, parts[i % batches], one)

        def put_plain() -> None:
            part = parts[next(plain_turn) % batches]
            with plain.begin(write=True) as txn:
                txn.cursor().putmulti(sorted(zip([name.encode() for name in part], values, strict=True)))

        def get() -> None:
            store.get_many(number, EFFECT, parts[next(reads) % batches])

        def get_plain() -> None:
            part = parts[next(plain_reads) % batches]
            with plain.begin() as txn:
                for name in part:
                    txn.get(name.encode())

        works: dict[str, Callable[[], object]] = {
            "put": put,
            "put_plain": put_plain,
            "get": get,
            "get_plain": get_plain,
        }
        for _ in range(batches):
            put()
            put_plain()
        seconds = interleave(works, max(rounds, batches))
        plain.close()
    return [
        per_record(
            f"{name} a record in batches of {AT_ONCE:,}, 20 columns, full",
            seconds[name],
            bar,
            f"{does}; lmdb alone, values encoded already: {microseconds(per_value(seconds[f'{name}_plain']))}",
        )
        for name, bar, does in (
            ("put", 8.0, "version checked, encoded, durable commit"),
            ("get", 4.0, "read and decoded"),
        )
    ]


def one_effect() -> GameModel:
    """A model with a random effect and nothing learned."""
    registry = ColumnRegistry()
    effect = RandomEffect(
        EFFECT,
        "user",
        (),
        registry,
        Gaussian(np.zeros(1), np.ones((1, 1))),
        no_evidence(0, full=True),
        pa.array([], pa.string()),
        np.zeros(0, dtype=np.int64),
    )
    return GameModel(Outcome.NORMAL, FixedCoefficients((), registry, np.zeros(1)), (effect,))


@contextmanager
def opened(folder: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(folder, partitions_of)
    try:
        yield store
    finally:
        store.close()


def per_value(seconds: list[float]) -> list[float]:
    return [each / AT_ONCE for each in seconds]


def per_record(name: str, seconds: list[float], bar: float | None, baseline: str = "") -> Measurement:
    """Microseconds of processor time for one record."""
    each = per_value(seconds)
    return Measurement(
        name=name,
        value=statistics.median(each) * 1e6,
        unit="us",
        bar=None if bar is None else Bar(bar, "at most"),
        baseline=baseline,
        spread=spread(seconds),
    )
