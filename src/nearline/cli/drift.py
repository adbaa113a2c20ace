"""What a worker does about drift: says it, and refits where the configuration has it so."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import final

from nearline.clock import Clock
from nearline.stream.drift import Drift
from nearline.stream.drift_watch import DriftWatch

EVERY_MS = 60_000
_STANDARD_ERROR = 2
NEARLINE = (sys.executable, "-P", "-c", "from nearline.cli.start import main; main()")


@final
class DriftAlarm:
    """Looks now and then; for each generation it speaks, and starts a refit, at most once.

    Parameters
    ----------
    watch : what looks. say : takes a line. refit : starts a refit, None where nobody wants one.
    """

    def __init__(
        self,
        watch: DriftWatch,
        clock: Clock,
        say: Callable[[str], object],
        refit: Callable[[], object] | None = None,
        every_ms: int = EVERY_MS,
    ) -> None:
        self._watch, self._clock, self._say, self._refit, self._every_ms = watch, clock, say, refit, every_ms
        self._looked_ms: int | None = None
        self._alarmed = 0

    def turn(self) -> Drift | None:
        """Look if it is time to; what was seen."""
        now_ms = self._clock.now_ms()
        if self._looked_ms is not None and now_ms - self._looked_ms < self._every_ms:
            return None
        self._looked_ms = now_ms
        drift = self._watch.look()
        if drift.words and drift.generation != self._alarmed:
            self._alarmed = drift.generation
            self._say(f"drift: generation {drift.generation}: {'; '.join(drift.words)}\n")
            if self._refit is not None:
                self._refit()
        return drift


def start_refit(config: Path) -> subprocess.Popen[bytes]:
    """Begin `nearline refit` of level 2 in a process of its own; what it says goes to standard error."""
    command = [*NEARLINE, "refit", str(config), "--level", "2"]
    return subprocess.Popen(command, stdout=_STANDARD_ERROR, stdin=subprocess.DEVNULL)  # noqa: S603 - ourselves
