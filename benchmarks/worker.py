"""Runs one benchmark module and writes its rows as JSON: `python -m benchmarks.worker MODULE FILE [--quick]`.

A process of its own, so that threads, memory and caches of one module do not colour another's figures.
"""

import importlib
import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import cast

from benchmarks.measurement import Measurement
from nearline.kernels import _posterior


def measure(module: str, quick: bool) -> list[Measurement]:
    """What the module's `run` returns; it may take `quick`, and may return dicts."""
    run = importlib.import_module(f"benchmarks.{module}").run
    takes_quick = "quick" in inspect.signature(run).parameters
    found = run(quick=quick) if takes_quick else run()
    return [
        row if isinstance(row, Measurement) else Measurement.read(cast("Mapping[str, object]", row))
        for row in found
    ]


def to_row(module: str, found: Measurement) -> dict[str, object]:
    """A measurement as JSON takes it."""
    return {
        "module": module,
        **asdict(found),
        "bar": None if found.bar is None else str(found.bar),
        "met": found.is_met,
        "instruction_set": _posterior.instruction_set(),
    }


def main() -> None:
    module, path, *options = sys.argv[1:]
    rows = [to_row(module, found) for found in measure(module, "--quick" in options)]
    Path(path).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
