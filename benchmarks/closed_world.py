"""What freshness and exploration earn where the truth is known: python -m benchmarks.closed_world

Worlds of `nearline.evaluate.world`, several seeds of each: deployments that learn from their own clicks, side by side
on the same visits. Prints tables, and writes them to docs/simulated-world.md between the markers and the curves of
regret to docs/*.svg.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

import numpy as np

from benchmarks.standalone import standalone
from nearline.bandit.off_policy import Estimate as LoggedEstimate
from nearline.evaluate.bootstrap import Estimate
from nearline.evaluate.freshness_figures import Line, lines_figure
from nearline.evaluate.world import World, WorldSettings
from nearline.evaluate.world_arms import Arm, ArmSettings, DeployedArm, Oracle
from nearline.evaluate.world_history import trained
from nearline.evaluate.world_logs import Judged, judge_by_logs
from nearline.evaluate.world_results import ArmSummary, cumulative_regret, share_of, summaries
from nearline.evaluate.world_run import WorldRun, run_world
from nearline.posterior.forgetting import Forgetting
from nearline.serve import PolicyChoice

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
PAGE: Final = DOCS / "simulated-world.md"
FIRST_SEED: Final = 11
"""Worlds with smaller numbers were looked at while the shape of the world was chosen (docs/decisions/0020)."""
THOMPSON: Final = PolicyChoice("thompson", draws=1)
"""One draw suffices where nobody asks for propensities."""
LEVELS: Final = (
    ArmSettings("level 0", level=0),
    ArmSettings("level 2", level=2),
    ArmSettings("Thompson", THOMPSON),
    ArmSettings("level 3"),
)
POLICIES: Final = (
    ArmSettings("greedy"),
    ArmSettings("Thompson", THOMPSON),
    ArmSettings("UCB", PolicyChoice("ucb", width=1.0)),
    ArmSettings("epsilon-greedy", PolicyChoice("epsilon-greedy", epsilon=0.05)),
)
FORGETFUL: Final = {"per-user": Forgetting(86_400_000.0), "per-item": Forgetting(86_400_000.0 / 2)}


@final
@dataclass(frozen=True, slots=True)
class Scenario:
    """A world, who acts in it, and whether an oracle that knows after 20 impressions acts too."""

    name: str
    world: WorldSettings
    arms: tuple[ArmSettings, ...]
    twenty: bool = False


_FEW: Final = WorldSettings(visits=3_000, hours=10, users=10, items=10, history=3_000)
SCENARIOS: Final = (
    Scenario("new-advertisers", replace(_FEW, new_items=50), LEVELS, twenty=True),
    Scenario(
        "thirty-items",
        replace(_FEW, items=30, new_items=50, examination=(1.0, 0.8, 0.6)),
        LEVELS,
        twenty=True,
    ),
    Scenario("little-history", replace(_FEW, items=20, history=300), POLICIES),
    Scenario(
        "drift-and-change",
        replace(
            _FEW,
            hours=48,
            items=20,
            new_items=48,
            examination=(1.0, 0.8, 0.6),
            user_days=4.0,
            item_days=2.0,
            changed=0.5,
        ),
        tuple(replace(arm, forgetting=FORGETFUL) for arm in LEVELS),
    ),
)


def run(scenario: Scenario, seed: int) -> WorldRun:
    """One world."""
    world = World(scenario.world, seed)
    model = trained(world)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        arms: list[Arm] = [Oracle(world)]
        if scenario.twenty:
            arms.append(Oracle(world, 20, "oracle after 20"))
        for settings in scenario.arms:
            arms.append(arm := DeployedArm(settings, world, model, Path(folder) / settings.name))
            stack.callback(arm.close)
        return run_world(world, arms)


def judged(seed: int, visits: int = 2_000) -> Iterator[tuple[str, Judged]]:
    """Greedy judged by the logs of policies that explore, the beliefs those of the history."""
    world = World(WorldSettings(visits=visits, users=10, history=1_000, candidates=5), seed)
    model = trained(world)
    for name, policy in (
        ("epsilon-greedy", PolicyChoice(name="epsilon-greedy", epsilon=0.3)),
        ("Thompson", PolicyChoice("thompson")),
    ):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            arms = [
                DeployedArm(ArmSettings("logging", policy, level=0), world, model, Path(folder) / "logging"),
                DeployedArm(ArmSettings("target", level=0), world, model, Path(folder) / "target"),
            ]
            for arm in arms:
                stack.callback(arm.close)
            yield name, judge_by_logs(world, *arms)


def table(arms: Sequence[ArmSummary]) -> str:
    """The table in Markdown."""
    lines = [
        "| arm | clicks | of the truth's | regret, first quarter | last | observed / expected | minutes old |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for arm in arms:
        cells = (
            _spread(arm.clicks, ",.0f"),
            _spread(arm.share, ".1%"),
            _spread(arm.regret[0], ".1f"),
            _spread(arm.regret[-1], ".1f"),
            _spread(arm.observed_over_expected, ".3f"),
            f"{arm.age_minutes.value:,.0f}",
        )
        lines.append(f"| {arm.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(estimate: Estimate, form: str) -> str:
    if not np.isfinite(estimate.low):
        return f"{estimate.value:{form}}"
    return f"{estimate.value:{form}} ({estimate.low:{form}} to {estimate.high:{form}})"


def figure(scenario: Scenario, runs: Sequence[WorldRun]) -> str:
    """The curves of cumulative regret, means over the worlds, as an SVG with colours of its own."""
    visits = scenario.world.visits
    at = np.unique(np.linspace(0, visits - 1, 60).astype(int))
    lines = [
        Line(arm.name, np.mean([cumulative_regret(run, arm.name)[at] for run in runs], axis=0))
        for arm in scenario.arms
    ]
    svg = lines_figure(
        at.astype(np.float64),
        lines,
        labels=("visits", "expected clicks missed"),
        description=f"Cumulative regret in the world {scenario.name}",
        identity=scenario.name,
    )
    return standalone(svg)


def off_policy_table(found: Mapping[str, Sequence[Judged]]) -> str:
    """How estimates from logs compare with the truth, in Markdown."""
    lines = [
        "| logs of | estimator | mean error | rms error | mean standard error | truth in the interval |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, worlds in found.items():
        for estimator in worlds[0].estimates:
            made: list[tuple[LoggedEstimate, float]] = [
                (one.estimates[estimator], one.truth) for one in worlds
            ]
            error = np.array([estimate.value - truth for estimate, truth in made])
            inside = sum(estimate.low <= truth <= estimate.high for estimate, truth in made)
            spread = np.mean([estimate.standard_error for estimate, _ in made])
            lines.append(
                f"| {name} | {estimator} | {error.mean():+.4f} | {np.sqrt((error**2).mean()):.4f} | {spread:.4f} | "
                f"{inside} of {len(made)} |"
            )
    return "\n".join(lines)


def write_between(name: str, text: str) -> None:
    """Put the text between the markers of that name on the page."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(begin)
    _, after = rest.split(end)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Run every scenario, or some."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", nargs="*", choices=[*(one.name for one in SCENARIOS), "off-policy"])
    parser.add_argument("--dry", action="store_true", help="print, and write nothing")
    arguments = parser.parse_args()
    for scenario in SCENARIOS:
        if arguments.only and scenario.name not in arguments.only:
            continue
        begin, runs = time.process_time(), list[WorldRun]()
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
            runs.append(run(scenario, seed))
            print(
                f"{scenario.name}, seed {seed}: {time.process_time() - begin:.0f} s of processor time",
                flush=True,
            )
        text = table(summaries(runs))
        if scenario.twenty:
            shares = [
                f"{arm.name} {_spread(share_of(runs, arm.name, 'oracle after 20'), '.1%')}"
                for arm in scenario.arms
            ]
            text += "\n\nOf the expected clicks of the oracle after 20: " + "; ".join(shares) + "."
        print(text, flush=True)
        if not arguments.dry:
            write_between(scenario.name, text)
            (DOCS / f"regret-{scenario.name}.svg").write_text(figure(scenario, runs), encoding="utf-8")
    if not arguments.only or "off-policy" in arguments.only:
        found: dict[str, list[Judged]] = {}
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
            for name, one in judged(seed):
                found.setdefault(name, []).append(one)
        print(text := off_policy_table(found), flush=True)
        if not arguments.dry:
            write_between("off-policy", text)


if __name__ == "__main__":
    main()
