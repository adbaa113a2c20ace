"""Processes of `nearline` that a command starts, and ends before it ends itself."""

import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self, final

from nearline.cli.drift import NEARLINE
from nearline.errors import ModelError

_POLL_S: Final = 0.05
_GRACE_S: Final = 10.0


@final
class Children:
    """Commands of `nearline`, each in a process of its own whose output is in a file; none outlives the block.

    A process has a group of its own, so that an interrupt from the terminal comes to whoever started it alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start `nearline` with these arguments; what it says goes to NAME.log."""
        with self._log(name).open("wb") as log:
            command = [*NEARLINE, *arguments]
            self._running[name] = subprocess.Popen(  # noqa: S603 - ourselves
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )

    def ended(self, name: str) -> int | None:
        """The exit code of a process, None while it runs."""
        return self._running[name].poll()

    def said(self, name: str, pattern: str, stopped: Callable[[], bool]) -> str | None:
        """Wait until a process says something of that pattern; its first group, or None if it is to stop before.

        Raises a `ModelError` with the end of what it said if it ends instead.
        """
        while not stopped():
            code = self.ended(name)
            text = self._log(name).read_text(encoding="utf-8", errors="replace")
            if (found := re.search(pattern, text)) is not None:
                return found[1]
            if code is not None:
                raise ModelError(f"nearline {name} ended with code {code}: {text[-500:].strip()}")
            time.sleep(_POLL_S)
        return None

    def close(self) -> None:
        """Ask every process to stop, and kill those that have not within some seconds."""
        for process in self._running.values():
            process.terminate()
        until = time.monotonic() + _GRACE_S
        for process in self._running.values():
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"
