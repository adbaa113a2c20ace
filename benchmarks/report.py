"""Rows of results.json to results.md: one table a module, for people."""

import importlib.util
from itertools import groupby
from typing import Any

Row = dict[str, Any]

_INTRODUCTION = """\
# Benchmarks

Written by `make bench`; the same figures, for programs, are in `results.json`.

Every module runs in a process of its own with BLAS held to one thread. Unless a table says otherwise, times
are CPU time on one core, the works compared take turns in one process after a warm-up, and a figure is the
median of the rounds. The spread is the largest of the rounds over the smallest: 1.00 is perfectly steady. A
ratio ("x") says how many times less time ours takes than the peer.
"""


def render(rows: list[Row]) -> str:
    """The whole page."""
    parts = [_INTRODUCTION, _circumstances(rows)]
    parts += [
        _section(module, list(group)) for module, group in groupby(rows, key=lambda row: str(row["module"]))
    ]
    parts.append(
        "## To reproduce\n\n"
        "Install the development requirements and the package, then `make bench` (all modules) or\n"
        "`python -m benchmarks.run --only updates` (one); `--quick` takes fewer rounds of smaller problems.\n"
        "A quiet machine helps; ratios move by 10 to 25 percent with load, absolute times by more.\n"
    )
    return "\n".join(parts)


def _circumstances(rows: list[Row]) -> str:
    def distinct(key: str) -> str:
        return "; ".join(sorted({str(row[key]) for row in rows}))

    barred = [row for row in rows if row["met"] is not None]
    lines = [
        f"- Bars met: {sum(bool(row['met']) for row in barred)} of {len(barred)}",
        f"- Machine: {distinct('machine')}",
        f"- Instruction set of the kernels: {distinct('instruction_set')}",
        f"- Versions: {distinct('versions')}",
        f"- Commit: {distinct('commit')} (a plus sign: with changes not yet committed)",
    ]
    if any(row["quick"] for row in rows):
        lines.append("- Some figures come from a quick run: not for quoting")
    return "\n".join(lines) + "\n"


def _section(module: str, rows: list[Row]) -> str:
    lines = [
        f"## {module.partition('_')[2].replace('_', ' ').capitalize()}",
        "",
        _about(module),
        "",
        "| figure | value | spread | ours | peer | bar | met | measured against |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            row["name"] + (" (quick)" if row["quick"] else ""),
            f"{row['value']:.4g} {row['unit']}",
            "" if row["spread"] is None else f"{row['spread']:.2f}",
            row["ours"],
            row["peer"],
            row["bar"] or "",
            {True: "yes", False: "**no**", None: ""}[row["met"]],
            row["baseline"],
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _about(module: str) -> str:
    """First line of the module's docstring, read without importing what it measures."""
    found = importlib.util.find_spec(f"benchmarks.{module}")
    if found is None or found.origin is None:
        return ""
    with open(found.origin, encoding="utf-8") as file:  # noqa: PTH123
        return file.readline().strip().strip('"')
