"""What every command shares: how it talks to people and to programs, and how it ends."""

import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

OK, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130


@final
class Output:
    """Results on standard output (tables, or one JSON document), progress and remarks on standard error."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 160)
        self._err = Console(stderr=True, soft_wrap=True)

    def remark(self, text: str) -> None:
        """Say something in passing; nothing with --json."""
        if not self.as_json:
            self._err.print(text, markup=False, highlight=False)

    def table(self, table: Table) -> None:
        """Show a table; nothing with --json."""
        if not self.as_json:
            self._out.print(table)

    def line(self, text: str) -> None:
        """Show a result in words; nothing with --json."""
        if not self.as_json:
            self._out.print(text, markup=False, highlight=False)

    def result(self, document: Mapping[str, Any]) -> None:
        """Write the result for programs; only with --json."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @contextmanager
    def progress(self, what: str, steps: int) -> Iterator["Steps"]:
        """A progress bar on standard error, gone when done; none if it is not a terminal, or with --json."""
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._err,
            transient=True,
            disable=self.as_json or not self._err.is_terminal,
        )
        with bar:
            yield Steps(bar, what, steps)


@final
class Steps:
    """Advances a progress bar; may be called from several threads."""

    def __init__(self, bar: Progress, what: str, steps: int) -> None:
        self._bar = bar
        self._task = bar.add_task(what, total=steps)

    def done(self, what: str) -> None:
        """One step is done: `what` says which."""
        self._bar.update(self._task, advance=1, description=what)


@final
class Stopwatch:
    """Seconds by step, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 3)


def peak_memory_bytes() -> int:
    """The most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
