"""Runs the benchmark modules, each in a process of its own, and writes results.json and results.md here.

`python -m benchmarks.run [--only NAME] [--quick]`, or `make bench`. A module is a file bench_NAME.py, or soak_NAME.py
where it takes long and runs only when asked for, with a function `run(quick)` that returns measurements, or dicts of
name, value, unit, bar and baseline.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks.report import render

HERE = Path(__file__).parent
SINGLE_THREADED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PACKAGES = ("numpy", "scipy", "scikit-learn", "lambda-learner", "bayesianbandits", "river", "pyarrow")

Row = dict[str, Any]


def modules(kind: str = "bench") -> dict[str, str]:
    """Benchmark modules by name, in alphabetical order; those that take long are of the kind `soak`."""
    return {path.stem.removeprefix(f"{kind}_"): path.stem for path in sorted(HERE.glob(f"{kind}_*.py"))}


def run_module(module: str, quick: bool) -> list[Row]:
    """Rows of one module, measured in a new process; its error output goes to ours."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.json"
        command = [
            sys.executable,
            "-m",
            "benchmarks.worker",
            module,
            str(path),
            *(["--quick"] if quick else []),
        ]
        subprocess.run(command, check=True, cwd=HERE.parent, env={**os.environ, **SINGLE_THREADED})  # noqa: S603
        rows: list[Row] = json.loads(path.read_text())
    return rows


def machine() -> str:
    """The processor, how many cores of it, and the memory, in words."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = names[0] if names else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB"


def commit() -> str:
    """Short hash of the commit measured, with a plus sign if files differ from it; "unknown" outside git."""
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def ask(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603
            [git, *arguments], cwd=HERE, capture_output=True, text=True, check=False
        ).stdout.strip()

    own = ("--", "../src", ".", ":!results.json", ":!results.md")
    return (ask("rev-parse", "--short", "HEAD") or "unknown") + (
        "+" if ask("status", "--porcelain", *own) else ""
    )


def versions() -> str:
    """Versions of Python and of the packages measured or measured against."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def show(console: Console, rows: list[Row]) -> None:
    table = Table("figure", "value", "bar", "met")
    for row in rows:
        met = {True: "[green]yes", False: "[red]no", None: ""}[row["met"]]
        table.add_row(row["name"], f"{row['value']:.4g} {row['unit']}", row["bar"] or "", met)
    console.print(table)


def main(
    only: Annotated[
        list[str] | None, typer.Option(help="A module by name, as in updates; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option(help="Fewer rounds and smaller problems: for trying out.")] = False,
) -> None:
    """Measure, print what was found, and write results.json and results.md."""
    console = Console()
    every = modules() | modules("soak")
    unknown = sorted(set(only or ()) - set(every))
    if unknown:
        raise typer.BadParameter(f"no module {', '.join(unknown)}; there are {', '.join(every)}")
    wanted = [every[name] for name in only] if only else list(modules().values())
    circumstances = {"machine": machine(), "commit": commit(), "versions": versions(), "quick": quick}
    measured: dict[str, list[Row]] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        for module in wanted:
            task = progress.add_task(module, total=1)
            try:
                measured[module] = [{**row, **circumstances} for row in run_module(module, quick)]
            except subprocess.CalledProcessError as error:
                progress.update(task, description=f"[red]{module} failed ({error.returncode})")
                continue
            progress.update(task, completed=1, description=f"{module}: {len(measured[module])} figures")
            show(progress.console, measured[module])
    rows = [
        row for row in earlier_rows() if row["module"] not in measured and row["module"] in every.values()
    ]
    rows += [row for found in measured.values() for row in found]
    rows.sort(key=lambda row: row["module"])
    (HERE / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    (HERE / "results.md").write_text(render(rows))
    if len(measured) < len(wanted):
        raise typer.Exit(1)


def earlier_rows() -> list[Row]:
    """What results.json holds: modules not run this time keep their figures."""
    path = HERE / "results.json"
    rows: list[Row] = json.loads(path.read_text()) if path.exists() else []
    return rows


if __name__ == "__main__":
    typer.run(main)
