"""What a report on a replay says, and the front door that writes it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from nearline.errors import MissingExtraError
from nearline.evaluate.freshness import Replayed
from nearline.evaluate.freshness_measures import Freshness


@final
@dataclass(frozen=True, slots=True, eq=False)
class ReplayReport:
    """All that one page shows; `about` are lines on the data."""

    title: str
    replayed: Replayed
    freshness: Freshness
    about: tuple[str, ...] = ()


def replay_renderer() -> Callable[[ReplayReport], str]:
    """Return what turns a report into HTML, or raise a `MissingExtraError` if Jinja2 or Matplotlib is not there."""
    try:
        from nearline.evaluate.freshness_page import render  # noqa: PLC0415 - needs the extra `report`
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("nearline"):
            raise
        raise MissingExtraError("the HTML report", "report") from error
    return render


def write_replay_report(path: Path, report: ReplayReport) -> None:
    """Write the report as one HTML file that needs no other and no network; raises what `replay_renderer` does."""
    path.write_text(replay_renderer()(report), encoding="utf-8")
