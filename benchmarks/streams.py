"""Public streams -> what level 3 predicts of each row before its label: python -m benchmarks.streams --data DIR.

The first half of a stream trains the model once and chooses how level 3 forgets; the second half is scored first and
learned later. Writes streams.md and streams.json beside this file, stream by stream, so that a run may be cut short.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.ratings import ratings
from benchmarks.streams_page import BARS, CHOSEN, LEVELS, RESCORED, described, written
from nearline import datasets
from nearline.arrays import Floats, Ints
from nearline.batch.descent import fit_game
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.batch.tables import TableMapping, examples_from_table
from nearline.evaluate.choose import choose_settings
from nearline.evaluate.metrics import auc, log_loss
from nearline.evaluate.online import OnlineLevel, OnlineSettings
from nearline.evaluate.replay import Level, Stream, replay
from nearline.model.examples import Examples
from nearline.model.game import GameModel
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.outcomes import Outcome

HERE = Path(__file__).parent
DAY_MS = 86_400_000
FRACTIONS = (1.0, 0.3, 0.1, 0.03)
"""Time constants tried, as parts of the time the stream takes."""
SPREADS = (2.0, 4.0)
CHOOSE_ROWS = 60_000
"""Rows at the end of the first half at most, on which settings are chosen."""
AGAINST = {"tennis_wta": {"player_2": "player_1"}}
LATE_LABELS = {"hotel_bookings"}


def load_stream(name: str, directory: Path) -> tuple[Stream, TableMapping]:
    """The stream and what its columns mean."""
    loaded = datasets.load(name, directory)
    examples = examples_from_table(loaded.table, loaded.mapping, source=name)
    known_ms = resolved_ms(loaded.table, examples) if name == "hotel_bookings" else None
    return Stream.of(examples, known_ms), loaded.mapping


def resolved_ms(table: pa.Table, examples: Examples) -> Ints:
    """When a booking's label is learned: once the stay is over, cancelled or not.

    A cancellation is known earlier. Learning it then, and the guest who comes only in the end, would make the bookings
    of any recent week look mostly cancelled. The end of the stay is known when the booking is made.
    """
    assert examples.time_ms is not None
    nights = table["stays_in_weekend_nights"].to_numpy() + table["stays_in_week_nights"].to_numpy()
    lead = np.rint(np.expm1(table["log_lead_time"].to_numpy())).astype(np.int64)
    known = table["label_known_at"].cast(pa.int32()).to_numpy().astype(np.int64) * DAY_MS
    return np.asarray(np.maximum(examples.time_ms + (lead + nights) * DAY_MS, known), dtype=np.int64)


def training_settings(mapping: TableMapping) -> TrainingSettings:
    """The same for every stream: the mapping's features, the prior estimated."""
    random = tuple(
        RandomSettings(kind, kind, (kind,) if mapping.bags.get(kind) else ()) for kind in mapping.entities
    )
    return TrainingSettings(Outcome.BERNOULLI, FixedSettings(("global",)), random, sweeps=15, threads=1)


def trained(
    stream: Stream, settings: TrainingSettings, end: int, start: GameModel | None = None
) -> GameModel:
    """A model of the rows before `end` whose labels are known at its time."""
    known = np.sort(stream.known_before(stream.until_ms(end)))
    return fit_game(stream.examples.take(known[known < end]), settings, start=start).model


def refitted(stream: Stream, settings: TrainingSettings, model: GameModel, every: int) -> Floats:
    """Expected response of the second half by models refitted every so many rows."""
    half, n = len(stream) // 2, len(stream)
    parts = []
    for begin in range(half, n, every):
        if begin > half:
            model = trained(stream, settings, begin, model)
        parts.append(model.score(stream.examples.take(np.arange(begin, min(begin + every, n)))).mean)
    return np.concatenate(parts)


def measure(
    name: str, directory: Path, levels: Sequence[str], found: dict[str, Any], *, choose: bool
) -> Iterator[str]:
    """Metrics of the second half, of one level after the other; each is put into `found`, and said.

    `sixths` : log loss of each sixth of the second half. Without `choose`, level 3 learns as `found` says already.
    """
    stream, mapping = load_stream(name, directory)
    half, n = len(stream) // 2, len(stream)
    training = training_settings(mapping)
    model = trained(stream, training, half)
    only_random = replace(training, fixed=replace(training.fixed, locked=True))
    found["rows"] = n
    y = stream.examples.response[half:]
    for level in levels:
        if level == RESCORED and name not in LATE_LABELS:
            continue
        if level == CHOSEN and choose:
            found |= chosen_for(name, stream, model)
        settings = OnlineSettings(against=AGAINST.get(name, {}))
        if level in {CHOSEN, RESCORED}:
            settings = settings_of(name, stream, found)
        began = time.process_time()
        match level:
            case "level 0":
                predicted = model.score(stream.examples.take(np.arange(half, n))).mean
            case "level 2":
                predicted = refitted(stream, only_random, model, n // 10)
            case "ideal":
                predicted = refitted(stream, training, model, n // 100)
            case _:
                online: Level = OnlineLevel(stream, model, settings)
                found["times"], found["waves"] = len(stream.group_start) - 1, len(online.plan(stream, 0, n))
                began = time.process_time()
                online = Rescored(online) if level == RESCORED else online
                predicted = replay(stream, [online])[online.name][half:]
        seconds = round(time.process_time() - began, 1)
        sixths = zip(np.array_split(y, 6), np.array_split(predicted, 6), strict=True)
        found[level] = {
            "auc": auc(y, predicted),
            "log_loss": log_loss(y, predicted),
            "sixths": [log_loss(*sixth) for sixth in sixths],
            "seconds": seconds,
        }
        yield f"{level}: AUC {found[level]['auc']:.6f}, log loss {found[level]['log_loss']:.6f}, {seconds} s"


class Rescored:
    """Level 3 as if a row were served when its label is known: each effect learns it given what is then known of the
    others. A worker cannot do so, since it has the entities of its own partitions alone; this shows what that costs.
    """

    def __init__(self, level: Level) -> None:
        self._level = level
        self.name = level.name
        self.plan, self.score = level.plan, level.score

    def learn(self, rows: Ints) -> None:
        """Score the rows again, and learn them given that."""
        self._level.score(rows)
        self._level.learn(rows)


def chosen_for(name: str, stream: Stream, model: GameModel) -> dict[str, Any]:
    """How level 3 learns, as the first half of the stream chooses."""
    half, span = len(stream) // 2, float(stream.time_ms[-1] - stream.time_ms[0])
    began = time.process_time()

    def kept(settings: OnlineSettings) -> dict[str, Any]:
        constants = {
            effect: round(rule.time_constant_ms / span, 9)
            for effect, rule in settings.forgetting.items()
            if rule.time_constant_ms is not None
        }
        return {"time_constants": constants, "spreads": dict(settings.spread)}

    settings = choose_settings(
        stream.part(max(0, half - 2 * CHOOSE_ROWS), half),
        model,
        OnlineSettings(against=AGAINST.get(name, {})),
        begin=min(half // 2, CHOOSE_ROWS),
        end=min(half, 2 * CHOOSE_ROWS),
        time_constants_ms=[span * fraction for fraction in FRACTIONS],
        spreads=SPREADS,
        tried=lambda settings, loss: print(f"    {loss:.6f} {described(kept(settings))}", flush=True),
    )
    return kept(settings) | {"seconds_choosing": round(time.process_time() - began, 1)}


def settings_of(name: str, stream: Stream, found: dict[str, Any]) -> OnlineSettings:
    """The settings that `chosen_for` has written down."""
    span = float(stream.time_ms[-1] - stream.time_ms[0])
    rules = {
        effect: Forgetting(time_constant_ms=part * span) for effect, part in found["time_constants"].items()
    }
    return OnlineSettings(rules, found["spreads"], AGAINST.get(name, {}))


def main() -> None:
    """Measure what is asked for, and write it down beside what is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[*BARS, "ratings"])
    parser.add_argument("--levels", nargs="*", default=LEVELS, choices=LEVELS)
    parser.add_argument("--recorded", action="store_true", help="learn as chosen before, by streams.json")
    chosen = parser.parse_args()
    path = HERE / "streams.json"
    for name in chosen.only:
        print(name, flush=True)
        results = json.loads(path.read_text()) if path.exists() else {}
        found = results.setdefault(name, {})
        if name == "ratings":
            found |= ratings(chosen.data)
            said = iter([str(found)])
        else:
            said = measure(name, chosen.data, chosen.levels, found, choose=not chosen.recorded)
        for line in said:
            print(" ", line, flush=True)
            results = json.loads(path.read_text()) if path.exists() else {}
            results[name] = found
            path.write_text(json.dumps(results, indent=2) + "\n")
            (HERE / "streams.md").write_text(written(results))


if __name__ == "__main__":
    main()
