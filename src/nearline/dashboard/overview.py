"""A look at a deployment -> the numbers, tables and charts of the first page."""

from collections.abc import Mapping, Sequence

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.clock import utc
from nearline.dashboard import words
from nearline.dashboard.quality import LOSS, over_time
from nearline.dashboard.traffic import Delays, delays_over_time, feedback_delays, recent_rate, traffic
from nearline.dashboard.view import Chart, Live, Number, Series, Table
from nearline.dashboard.watched import Look
from nearline.evaluate.words import count, number, percent

_FATES = {
    "learned": "impressions learned, and the feedback they were learned with",
    "duplicate": "came again, or was overruled by other feedback",
    "late": "came after the close and changed nothing",
    "dead": "could not be read, or its impression did not come",
    "unanswered": "nobody answered, where that is not learned",
    "waiting": "open impressions, and feedback that waits",
}


def overview(look: Look) -> Live:
    """Everything the first page shows."""
    delays = feedback_delays(look.events, look.rows)
    return Live(
        _said(look),
        _numbers(look),
        (_fates(look), _levels(look), _delays(delays), _partitions(look)),
        (*_charts(look), _delay_chart(delays)),
    )


def _freshness(look: Look) -> float | None:
    learned_ms = look.standing.learned_ms
    return None if learned_ms is None else (look.now_ms - learned_ms) / 1000


def _said(look: Look) -> str:
    standing, judged = look.standing, look.judged
    loss = (
        f", {LOSS[look.model.outcome]} {number(judged.loss(judged.levels[-1]), 3)}"
        if len(judged.index)
        else ""
    )
    return (
        f"{words.rate(recent_rate(look.events, look.now_ms))} events a second, {count(standing.events_left)} events "
        f"to join, {count(standing.rows_left)} rows to learn{loss}"
    )


def _numbers(look: Look) -> tuple[Number, ...]:
    standing, judged = look.standing, look.judged
    rate = words.rate(recent_rate(look.events, look.now_ms))
    loss, calibration, rows = "\u2013", "\u2013", "no labelled row that was served yet"
    if len(judged.index):
        full = judged.levels[-1]
        loss, calibration = number(judged.loss(full), 4), number(judged.calibration(full), 3)
        rows = f"the last {count(len(judged.index))} rows, as served"
    return (
        Number("rate", "events a second", rate, "with a time in the last minute"),
        Number("lag-events", "events to join", count(standing.events_left), "in the log, not joined yet"),
        Number("lag-rows", "rows to learn", count(standing.rows_left), "joined, not learned yet"),
        Number("fresh", "last row learned", words.age(_freshness(look)), "ago: clock less event time"),
        Number("loss", LOSS[look.model.outcome], loss, rows),
        Number("calibration", "calibration", calibration, "observed / expected; 1 is right"),
        Number("generation", "generation", str(look.generation), "serves, and is learned into"),
    )


def _fates(look: Look) -> Table:
    counts = look.standing.joined.counts
    rows = [(name, count(getattr(counts, name)), meaning) for name, meaning in _FATES.items()]
    total = ("received", count(counts.received), "the sum of the above")
    return Table("fates", "Where every event went", ("fate", "events", "meaning"), (*rows, total), total=True)


def _levels(look: Look) -> Table:
    judged = look.judged
    if not len(judged.index):
        return Table(
            "levels",
            _LEVELS,
            _level_columns(look),
            (),
            empty="No row that a generation served is labelled yet.",
        )
    full = judged.loss(judged.levels[-1])
    rows = [
        (
            level.name,
            number(judged.loss(level)),
            number(judged.loss(level) - full, sign=True) if level is not judged.levels[-1] else "\u2013",
            number(judged.calibration(level), 3),
        )
        for level in judged.levels
    ]
    return Table("levels", _LEVELS, _level_columns(look), tuple(rows))


_LEVELS = "What each part is worth, as served"


def _level_columns(look: Look) -> tuple[str, ...]:
    return ("parts", LOSS[look.model.outcome], "above all parts", "observed / expected")


def _delays(delays: Delays) -> Table:
    rows = []
    if len(delays.seconds):
        shares = (0.05, 0.5, 0.95, 1.0)
        found = np.quantile(delays.seconds, shares).tolist()
        rows = [(percent(share, 0), words.age(seconds)) for share, seconds in zip(shares, found, strict=True)]
    caption = f"From feedback to the row log: {count(len(delays.seconds))} rows"
    return Table(
        "delays", caption, ("share of rows", "at most"), tuple(rows), empty="No row with feedback yet."
    )


def _delay_chart(delays: Delays) -> Chart:
    found = delays_over_time(delays)
    return _chart(
        "delay",
        "Seconds from feedback to the row log",
        f"What half of the rows, and 95 %, took at most, in stretches of {words.span(found.width_s)} by the clock.",
        found.seconds,
        {"95 %": found.most, "half": found.median},
        digits=2,
    )


def _partitions(look: Look) -> Table:
    rows = [
        (
            f"partition {one.partition}",
            "\u2013" if one.process is None else str(one.process),
            count(one.left),
            count(one.counts.learned),
            count(one.counts.taken_back),
            count(one.counts.set_aside),
            count(one.counts.waiting),
            words.clock_time(one.learned_ms),
        )
        for one in look.standing.partitions
    ]
    columns = (
        "partition",
        "process",
        "rows left",
        "learned",
        "taken back",
        "set aside",
        "waiting",
        "last row, event time (UTC)",
    )
    process = look.standing.join_process
    joins = "no process joins" if process is None else f"process {process} joins"
    return Table("partitions", f"Workers: {joins}", columns, tuple(rows))


def _charts(look: Look) -> tuple[Chart, ...]:
    found, groups = traffic(look.events), over_time(look.judged)
    loss = LOSS[look.model.outcome]
    size = (
        f"Each point is the mean of about {int(groups.rows.mean()):,} labelled rows"
        if len(groups.rows)
        else "No rows yet"
    )
    return (
        _chart(
            "loss",
            f"{loss.capitalize()} as served",
            f"{size}, at the time they were shown. Lower is better.",
            groups.shown_ms // 1000,
            groups.loss,
            digits=3,
        ),
        _chart(
            "calibrated",
            "Calibration as served",
            f"Responses observed over expected: 1 is right. {size}.",
            groups.shown_ms // 1000,
            groups.calibration,
            digits=2,
            level=1.0,
        ),
        _chart(
            "traffic",
            "Events a second",
            f"By event time, in stretches of {words.span(found.width_s)}.",
            found.seconds,
            {"impressions": found.impressions, "feedback": found.feedback},
            digits=2,
        ),
    )


def _chart(
    id_: str,
    heading: str,
    reading: str,
    seconds: Ints,
    lines: Mapping[str, Floats],
    *,
    digits: int,
    level: float | None = None,
) -> Chart:
    series = tuple(Series(name, _values(values)) for name, values in lines.items())
    times = seconds.tolist()
    rows = [
        (utc(1000 * second), *(number(float(values[i]), digits) for values in lines.values()))
        for i, second in reversed(list(enumerate(times)))
    ]
    table = Table(f"{id_}-numbers", f"{heading}, newest first", ("time (UTC)", *lines), tuple(rows))
    return Chart(id_, heading, reading, tuple(map(float, times)), series, table, digits, level)


def _values(values: Sequence[float] | Floats) -> tuple[float | None, ...]:
    return tuple(float(value) if np.isfinite(value) else None for value in values)
