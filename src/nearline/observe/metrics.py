"""Every metric of a running system, declared once: its name, kind and unit, what it means, what to do when it moves.

Names and units are those of Prometheus: base units, counters that end in ``_total``. Labels have few values; none is
the name of an entity. `docs/monitoring.md` shows this list, and a test compares the two.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

Kind: TypeAlias = Literal["counter", "gauge", "summary"]
"""A counter only grows, a gauge goes up and down, a summary counts things and adds up what each took."""


@final
@dataclass(frozen=True, slots=True)
class Metric:
    """What is known of a metric before it is measured.

    Attributes
    ----------
    name : as Prometheus has it; a summary's is followed by ``_count`` and ``_sum``.
    unit : what its numbers count.
    meaning, when_it_moves : one sentence each.
    label : what its series differ by, and `values` which ones there are; none where there is one series.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    when_it_moves: str
    label: str | None = None
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        assert self.name.endswith("_total") == (self.kind == "counter")  # noqa: S101 - our own list
        assert (self.label is None) == (not self.values)  # noqa: S101 - our own list


EVENTS: Final = Metric(
    "nearline_events_total",
    "counter",
    "events",
    "Events whose fate is decided, by what became of them, since the deployment began.",
    "`late` grows: widen `stream.window` or `stream.lateness`, or set `stream.correct_within`. `dead` grows: "
    "`nearline log dead` shows the reasons. `duplicate` grows: somebody sends again; it does no harm.",
    "fate",
    ("learned", "duplicate", "late", "dead", "unanswered"),
)
EVENTS_WAITING: Final = Metric(
    "nearline_events_waiting",
    "gauge",
    "events",
    "Impressions that are open, and feedback that waits with them or for them.",
    "About traffic times `stream.window` is normal. It grows without end where event time stands still: set "
    "`stream.tick_after`.",
)
LAG_EVENTS: Final = Metric(
    "nearline_lag_events",
    "gauge",
    "events",
    "Events in the log that are not joined yet.",
    "It grows: worker 0 is down or too slow; look at its turns.",
)
LAG_ROWS: Final = Metric(
    "nearline_lag_rows",
    "gauge",
    "rows",
    "Joined rows of this worker's partitions that are not learned yet.",
    "It grows: this worker is down or too slow; add workers, up to one for each partition, or learn more rows at "
    "once (`stream.minibatch.rows`).",
)
ROWS: Final = Metric(
    "nearline_rows_total",
    "counter",
    "rows",
    "Rows of this worker's partitions by what became of them; a row counts once for each entity it teaches.",
    "`set_aside` grows: `nearline log dead` shows the reasons. `taken_back` grows: labels come late.",
    "fate",
    ("learned", "taken_back", "set_aside"),
)
ROWS_WAITING: Final = Metric(
    "nearline_rows_waiting",
    "gauge",
    "rows",
    "Rows whose mini-batch is not due yet.",
    "It stays below `stream.minibatch.max_waiting`. Near it: lower `rows` or `age` of `[stream.minibatch]`.",
)
MINI_BATCHES: Final = Metric(
    "nearline_mini_batches_total",
    "counter",
    "mini-batches",
    "Mini-batches learned, each of one entity.",
    "Learned rows by this are the rows of a mini-batch.",
)
FRESHNESS: Final = Metric(
    "nearline_freshness_seconds",
    "gauge",
    "seconds",
    "This machine's time minus the event time of the last row that this process took; that of a row is the time from "
    "which its label is known.",
    "It grows with no lag: there is no traffic. It grows with lag: see there. Negative: a sender's clock is ahead.",
)
TURN: Final = Metric(
    "nearline_turn_seconds",
    "summary",
    "seconds",
    "Turns with something to do, and the time they took from reading to the last commit, since this process began.",
    "The mean grows with the load up to `stream.at_once`. It grows without load: the disk is slow.",
)
GENERATION: Final = Metric(
    "nearline_generation",
    "gauge",
    "number",
    "The generation that is learned into.",
    "It changes when somebody switches or rolls back; all workers follow within a turn.",
)

METRICS: Final = (
    EVENTS,
    EVENTS_WAITING,
    LAG_EVENTS,
    LAG_ROWS,
    ROWS,
    ROWS_WAITING,
    MINI_BATCHES,
    FRESHNESS,
    TURN,
    GENERATION,
)


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """One number of a metric, of one value of its label if it has one; of a summary the sum, and how many."""

    metric: Metric
    value: float
    label_value: str | None = None
    count: int = 0


def table() -> str:
    """All metrics as a table in Markdown, as it stands in the documents."""
    rows = [
        f"| `{one.name}`{_labels(one)} | {one.kind}, {one.unit} | {one.meaning} | {one.when_it_moves} |"
        for one in METRICS
    ]
    return "\n".join(["| metric | kind, unit | meaning | when it moves |", "|---|---|---|---|", *rows])


def _labels(metric: Metric) -> str:
    return "" if metric.label is None else f" by `{metric.label}`: {', '.join(metric.values)}"
