"""What every command shares: how it talks to people and to programs, and how it ends."""

import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
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

from nearline.errors import ConfigError

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
            self._out.print(table, soft_wrap=False)

    def line(self, text: str) -> None:
        """Show a result in words; nothing with --json."""
        if not self.as_json:
            self._out.print(text, markup=False, highlight=False)

    def result(self, document: Mapping[str, Any]) -> None:
        """Write the result for programs; only with --json."""
        if self.as_json:
            sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    @contextmanager
    def step(self, name: str, watch: "Stopwatch") -> Iterator[None]:
        """Time a step, and show in a terminal that it is under way."""
        with watch.step(name), self.progress(name, None):
            yield

    @contextmanager
    def progress(self, what: str, steps: int | None) -> Iterator["Steps"]:
        """A progress bar on standard error, gone when done; none if it is not a terminal, or with --json.

        Where the number of `steps` is None it only shows that work goes on.
        """
        counted = [] if steps is None else [BarColumn(), MofNCompleteColumn()]
        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            *counted,
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

    def __init__(self, bar: Progress, what: str, steps: int | None) -> None:
        self._bar = bar
        self._task = bar.add_task(what, total=steps)

    def done(self, what: str) -> None:
        """One step is done: `what` says which."""
        self._bar.update(self._task, advance=1, description=what)

    def to(self, what: str, steps: int) -> None:
        """So many steps are done in all, and this is under way."""
        self._bar.update(self._task, completed=steps, description=what)


@final
class Stopwatch:
    """Seconds by step, in the order in which they ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._beside: set[str] = set()

    @contextmanager
    def step(self, name: str, *, beside: bool = False) -> Iterator[None]:
        """Time a step; `beside`: it goes on while another does, whose seconds hold its own."""
        if beside:
            self._beside.add(name)
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 3)

    def in_words(self) -> str:
        """The seconds of the steps one after another, which add up, then of those that went on beside them."""
        shown = {name: f"{name} {took:.1f}" for name, took in self.seconds.items()}
        in_turn = ", ".join(text for name, text in shown.items() if name not in self._beside)
        beside = ", ".join(text for name, text in shown.items() if name in self._beside)
        return f"{in_turn}; meanwhile: {beside}" if beside else in_turn


def require_writable(option: str, path: Path) -> None:
    """Raise a `ConfigError` if no file can be written at `path`: before the work, not after it."""
    folder = path.absolute().parent
    if path.is_dir():
        raise ConfigError(f"{option}: expected a file, {path} is a folder")
    if not folder.is_dir():
        raise ConfigError(f"{option}: expected a file in a folder that exists, there is no {folder}")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise ConfigError(f"{option}: {path} cannot be written: permission denied")


def peak_memory_bytes() -> int:
    """The most memory this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024
