"""Every metric of a running system, declared once: its name, kind and unit, what it means, what to do when it moves.

Names and units are those of Prometheus: base units, counters that end in ``_total``. Labels have few values; none is
the name of an entity. `docs/monitoring.md` shows this list, and a test compares the two.
"""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, final

Kind: TypeAlias = Literal["counter", "gauge", "summary", "histogram"]
"""A counter only grows, a gauge goes up and down, a summary counts things and adds up what each took; a histogram also
counts those up to each of its bounds."""


@final
@dataclass(frozen=True, slots=True)
class Metric:
    """What is known of a metric before it is measured.

    Attributes
    ----------
    name : as Prometheus has it; a summary's is followed by ``_count`` and ``_sum``, a histogram's also by ``_bucket``.
    unit : what its numbers count.
    meaning, when_it_moves : one sentence each.
    label : what its series differ by, and `values` which ones there are; none where there is one series.
    buckets : upper bounds of a histogram, ascending; the last, infinity, is left out.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    when_it_moves: str
    label: str | None = None
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        assert self.name.endswith("_total") == (self.kind == "counter")  # noqa: S101 - our own list
        assert (self.label is None) == (not self.values)  # noqa: S101 - our own list
        assert (self.kind == "histogram") == bool(self.buckets)  # noqa: S101 - our own list


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

REQUESTS: Final = Metric(
    "nearline_requests_total",
    "counter",
    "requests",
    "Requests to rank, score and the like by what became of them.",
    "`refused` grows: the replies say which field is wrong. `busy` grows: the disk does not keep up. `failed` grows: "
    "look at the server's log.",
    "result",
    ("answered", "refused", "busy", "failed"),
)
REQUEST_SECONDS: Final = Metric(
    "nearline_request_seconds",
    "histogram",
    "seconds",
    "Requests, from their first byte to the reply: reading, scoring, and waiting for the disk.",
    "It grows with the load: compare it with `nearline_log_append_seconds`, which is the disk's part.",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0),
)
LOG_WAITING: Final = Metric(
    "nearline_log_waiting",
    "gauge",
    "events",
    "Impressions and feedback that are not on disk yet; their requests wait.",
    "Near `serve.waiting` requests are refused: the disk is slow, or full.",
)
LOG_APPEND: Final = Metric(
    "nearline_log_append_seconds",
    "summary",
    "seconds",
    "Appends to the event log, each of all events that waited, and the time they took.",
    "The mean is how long the disk takes to make something durable, some milliseconds.",
)
LOG_EVENTS: Final = Metric(
    "nearline_log_events_total",
    "counter",
    "events",
    "Impressions and feedback that this process has logged.",
    "By `nearline_log_append_seconds_count` it is how many share an append.",
)
BELIEFS: Final = Metric(
    "nearline_beliefs_total",
    "counter",
    "entities",
    "Entities whose beliefs were asked for: `kept` in memory, or `read` from the store.",
    "The share of `read` grows: raise `serve.entities`; or the worker learns more entities a second than before.",
    "found",
    ("kept", "read"),
)
KEPT_CANDIDATES: Final = Metric(
    "nearline_kept_candidates",
    "gauge",
    "candidates",
    "Candidates whose features the server keeps.",
    "It is what was put less what was deleted.",
)

OF_WORKERS: Final = (
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
OF_SERVERS: Final = (
    REQUESTS,
    REQUEST_SECONDS,
    LOG_WAITING,
    LOG_APPEND,
    LOG_EVENTS,
    BELIEFS,
    KEPT_CANDIDATES,
)
METRICS: Final = (*OF_WORKERS, *OF_SERVERS)


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """One number of a metric, of one value of its label if it has one; of a summary the sum, and how many.

    `up_to` : of a histogram how many are at most each bound, and last how many there are.
    """

    metric: Metric
    value: float
    label_value: str | None = None
    count: int = 0
    up_to: tuple[int, ...] = ()


def table() -> str:
    """All metrics as a table in Markdown, as it stands in the documents."""
    rows = [
        f"| `{one.name}`{_labels(one)} | {one.kind}, {one.unit} | {one.meaning} | {one.when_it_moves} |"
        for one in METRICS
    ]
    return "\n".join(["| metric | kind, unit | meaning | when it moves |", "|---|---|---|---|", *rows])


def _labels(metric: Metric) -> str:
    return "" if metric.label is None else f" by `{metric.label}`: {', '.join(metric.values)}"
