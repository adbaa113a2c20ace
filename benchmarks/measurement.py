"""One measured figure, the bar it is held to, and the interleaved timing behind it."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Self, final

Work = Callable[[], object]


@final
@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must reach: at least, or at most, `limit`."""

    limit: float
    direction: Literal["at least", "at most"] = "at least"

    def is_met(self, value: float) -> bool:
        """Whether `value` reaches the bar."""
        return value >= self.limit if self.direction == "at least" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.direction} {self.limit:g}"

    @classmethod
    def read(cls, bar: object, unit: str) -> Self | None:
        """A bar from None, "at most 3", or a number; more is better of ratios ("x") and rates."""
        if bar is None or isinstance(bar, cls):
            return bar
        if isinstance(bar, str):
            for direction, signs in (("at least", ("at least", ">=")), ("at most", ("at most", "<="))):
                for sign in signs:
                    if bar.startswith(sign):
                        return cls(float(bar.removeprefix(sign).split()[0]), direction)  # type: ignore[arg-type]
            raise ValueError(f'bar: expected a number, "at least 3" or "at most 3", got "{bar}"')
        assert isinstance(bar, int | float)
        more_is_better = unit == "x" or unit.endswith("/s")
        return cls(float(bar), "at least" if more_is_better else "at most")


@final
@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure.

    Attributes
    ----------
    bar : what the figure must reach, or None where it is only reported.
    baseline : in words, what it is measured against.
    ours, peer : the two absolute figures behind a ratio, with their units.
    spread : largest over smallest value of the interleaved rounds; None if measured once.
    """

    name: str
    value: float
    unit: str
    bar: Bar | None = None
    baseline: str = ""
    ours: str = ""
    peer: str = ""
    spread: float | None = None

    @property
    def is_met(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        return None if self.bar is None else self.bar.is_met(self.value)

    @classmethod
    def read(cls, row: Mapping[str, object]) -> Self:
        """A measurement from a dict of name, value, unit, bar, baseline (in words, or the peer's figure)."""
        value, unit, baseline = row["value"], str(row.get("unit", "")), row.get("baseline")
        assert isinstance(value, int | float)
        peer = f"{baseline:.3g} {unit}" if isinstance(baseline, int | float) and unit != "x" else ""
        return cls(
            name=str(row["name"]),
            value=float(value),
            unit=unit,
            bar=Bar.read(row.get("bar"), unit),
            baseline=baseline if isinstance(baseline, str) else "",
            ours=str(row.get("ours", "")),
            peer=str(row.get("peer", peer)),
            spread=_optional_float(row.get("spread")),
        )


def _optional_float(value: object) -> float | None:
    assert value is None or isinstance(value, int | float)
    return None if value is None else float(value)


def interleave(works: Mapping[str, Work], rounds: int, least_seconds: float = 0.02) -> dict[str, list[float]]:
    """CPU seconds per call of each work, one value a round; in a round the works take turns.

    Each work is called once to warm it up, and then as often in a row as takes `least_seconds`.
    """
    repeats: dict[str, int] = {}
    for name, work in works.items():
        work()
        repeats[name] = max(1, round(least_seconds / max(cpu_seconds(work), 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(cpu_seconds(work, repeats[name]))
    return seconds


def cpu_seconds(work: Work, repeats: int = 1) -> float:
    """CPU seconds per call of `work`, called `repeats` times."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def spread(values: list[float]) -> float:
    """Largest over smallest."""
    return max(values) / max(min(values), 1e-12)


def times_faster(
    name: str, ours: list[float], peer: list[float], baseline: str, bar: Bar | None = None
) -> Measurement:
    """Median over the rounds of peer / ours, both in seconds per update."""
    ratios = [p / o for o, p in zip(ours, peer, strict=True)]
    return Measurement(
        name=name,
        value=statistics.median(ratios),
        unit="x",
        bar=bar,
        baseline=baseline,
        ours=microseconds(ours),
        peer=microseconds(peer),
        spread=spread(ratios),
    )


def microseconds(seconds: list[float]) -> str:
    """The median in words."""
    return f"{statistics.median(seconds) * 1e6:.3g} us"
