"""The loop closed: a service, its workers, and simulated visitors who are shown what it ranks and click on it."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.live import Live
from rich.table import Table

from nearline.cli.children import Children
from nearline.cli.console import INTERRUPTED, Output, Stopwatch
from nearline.cli.loop_arms import Client, HttpArm, LoopArm, begin_deployment
from nearline.cli.stopping import Stop, stopping
from nearline.clock import SystemClock
from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.world import Visit, World, WorldSettings
from nearline.evaluate.world_arms import Arm, Oracle
from nearline.evaluate.world_history import trained
from nearline.evaluate.world_results import ArmSummary, summaries
from nearline.evaluate.world_run import WorldRun, run_world

ARMS: Final = (
    LoopArm("level-0", 0, "greedy", "level 0, greedy"),
    LoopArm("level-2", 2, "greedy", "level 2, greedy"),
    LoopArm("level-3", 3, "greedy", "level 3, greedy"),
    LoopArm("thompson", 3, "thompson", "level 3, Thompson"),
)
_WATCHED: Final = 2
"""The deployment that the dashboard shows."""
_HOURS: Final = 12
_REFIT_HOURS: Final = 3
_WINDOW_HOURS: Final = 1 / 4
_LATEST: Final = 1.5
"""So many times as long as planned a run may take on a machine that is too busy for it."""
_REFRESH_S: Final = 0.5


def closed_loop(out: Path, output: Output, watch: Stopwatch, *, seed: int, seconds: float) -> None:
    """Let the deployments of `ARMS` serve the same visitors for so many seconds, and show how each does.

    A signal to stop is waited for from the first process on, so that none is left behind.
    """
    with stopping() as stop:
        run = _run(out, output, watch, seed, seconds, stop)
    if stop.name == "SIGINT":
        raise typer.Exit(INTERRUPTED)
    if run is None or len(run.best) == 0:
        return
    found = summaries([run])
    output.table(_table(found, f"{len(run.best):,} visits, the same for all"))
    output.line(
        "regret: expected clicks missed by 1,000 visits, against who knows the truth; observed / expected: clicks\n"
        "by those the model expected; old: how long ago the last was shown that it has learned, at the median visit"
    )
    output.result(
        {"visits": len(run.best), "arms": [_document(arm) for arm in found], "seconds": watch.seconds}
    )


def _run(
    out: Path, output: Output, watch: Stopwatch, seed: int, seconds: float, stop: Stop
) -> WorldRun | None:
    hour_ms = round(1000 * seconds / _HOURS)
    settings = WorldSettings(
        visits=round(40 * seconds),
        hours=_HOURS,
        users=20,
        items=10,
        new_items=4 * _HOURS,
        history=4_000,
        hour_ms=hour_ms,
    )
    world = World(settings, seed, SystemClock().now_ms())
    output.remark(
        f"{settings.visits:,} visits in {_HOURS} hours of {hour_ms / 1000:.3g} s, {settings.new_items} advertisers "
        f"that appear, four an hour; {settings.history:,} visits before."
    )
    with output.step("train", watch):
        model = trained(world)
    window_ms = max(1, round(_WINDOW_HOURS * hour_ms))
    configs = []
    with output.step("publish", watch):
        for arm in ARMS:
            if stop.is_set():
                return None
            configs.append(begin_deployment(arm, world, model, out, window_ms))
    with ExitStack() as stack:
        children = stack.enter_context(Children(out))
        with output.step("start", watch):
            children.start("serve", "serve", *map(str, configs), "--port", "0")
            learning = [(arm, path) for arm, path in zip(ARMS, configs, strict=True) if arm.level]
            for arm, path in learning:
                children.start(f"worker-{arm.name}", "worker", str(path), "--metrics-port", "0", "--json")
            children.start("dashboard", "dashboard", str(configs[_WATCHED]), "--port", "0")
            address = children.said("serve", r"at (http://\S+)", stop.is_set)
            metrics = {
                arm.name: children.said(f"worker-{arm.name}", r"metrics: (http://\S+)", stop.is_set)
                for arm, _ in learning
            }
            dashboard = children.said("dashboard", r"dashboard: (http://\S+)", stop.is_set)
        if address is None or stop.is_set():
            return None
        stack.callback((client := Client(address)).close)
        arms: list[Arm] = [Oracle(world, name="who knows the truth")]
        arms += [
            HttpArm(
                arm,
                world,
                client,
                path,
                metrics=metrics.get(arm.name),
                children=children,
                window_ms=window_ms,
                refit_ms=_REFIT_HOURS * hour_ms,
            )
            for arm, path in zip(ARMS, configs, strict=True)
        ]
        output.remark(f"Watch {ARMS[_WATCHED].title} learn: {dashboard}")
        output.remark(f"The service answers at {address}; its logs are in {out}.")
        with watch.step("visits"), _shown(output, settings.visits) as show:
            return run_world(world, arms, 1 / 4, _paced(world, seconds, stop, show))


def _paced(
    world: World, seconds: float, stop: Stop, show: Callable[[WorldRun], None]
) -> Callable[[Visit, Callable[[], WorldRun]], bool]:
    """Before each visit wait until it is due, and show how it stands now and then."""
    begun = time.monotonic()
    last = begun

    def pace(visit: Visit, so_far: Callable[[], WorldRun]) -> bool:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REFRESH_S and visit.number:
            last = now
            show(so_far())
        if now - begun > _LATEST * seconds:
            return False
        due = begun + (visit.time_ms - world.start_ms) / 1000
        return not stop.wait(max(0.0, due - now))

    return pace


@contextmanager
def _shown(output: Output, visits: int) -> Iterator[Callable[[WorldRun], None]]:
    """Show how it stands: a live table in a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    is_live = console.is_terminal and not output.as_json
    with Live(console=console, transient=True, auto_refresh=False) if is_live else nullcontext() as live:

        def show(run: WorldRun) -> None:
            if live is not None:
                title = f"{len(run.best):,} of {visits:,} visits, the same for all"
                live.update(_table(summaries([run]), title), refresh=True)

        yield show


def _table(found: list[ArmSummary], title: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("who chooses", no_wrap=True)
    for column in (
        "\nclicks",
        "of the\ntruth's",
        "regret,\n1st quarter",
        "\nlast",
        "observed /\nexpected",
        "\nold",
    ):
        table.add_column(column, justify="right")
    for arm in found:
        table.add_row(*cells(arm))
    return table


def cells(arm: ArmSummary) -> tuple[str, ...]:
    """What the table says of an arm."""
    return (
        arm.name,
        f"{arm.clicks.value:,.0f}",
        f"{arm.share.value:.1%}",
        f"{arm.regret[0].value:.0f}",
        f"{arm.regret[-1].value:.0f}",
        f"{arm.observed_over_expected.value:.2f}",
        f"{60 * arm.age_minutes.value:.1f} s",
    )


def _document(arm: ArmSummary) -> dict[str, Any]:
    def value(estimate: Estimate) -> float:
        return round(estimate.value, 4)

    return {
        "name": arm.name,
        "clicks": round(arm.clicks.value),
        "share": value(arm.share),
        "regret": [value(part) for part in arm.regret],
        "observed_over_expected": value(arm.observed_over_expected),
        "seconds_old": round(60 * arm.age_minutes.value, 2),
        "cells": cells(arm),
    }
