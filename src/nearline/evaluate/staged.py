"""Examples -> what each part of a model adds: nested models, trained and judged on rows held out.

The first stage is the fixed effect alone; each further one adds a random effect to all before it. Stages begin where
the stage before ended, which saves time and changes nothing else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event
from typing import TypeAlias, TypeVar, final

import numpy as np

from nearline.arrays import Floats
from nearline.batch.descent import Sweep, Training, Watch, fit_stages, usable_examples
from nearline.batch.settings import FIXED, TrainingSettings
from nearline.errors import DataError
from nearline.evaluate.measures import Measures
from nearline.evaluate.report import Stage
from nearline.evaluate.results import Evaluation
from nearline.evaluate.summary import EntitySizes, evaluate
from nearline.fixed.linear import available_cores
from nearline.model.examples import MISSING, Examples, split_random
from nearline.model.game import GameModel, Scores
from nearline.posterior.outcomes import Outcome

Progress: TypeAlias = Callable[[int, str], None]
Finding = TypeVar("Finding")


@final
@dataclass(frozen=True, slots=True, eq=False)
class StageRun:
    """One stage with one seed: the training, the rows held out, and what the model says of them."""

    name: str
    seed: int
    training: Training
    test: Examples
    scores: Scores


def stage_names(settings: TrainingSettings) -> tuple[str, ...]:
    """The names of the stages in order: "fixed", then "+ NAME" of each random effect."""
    return FIXED, *(f"+ {effect.name}" for effect in settings.random)


def run_stages(
    work: Callable[[Sequence[StageRun], Watch], Finding],
    examples: Examples,
    settings: TrainingSettings,
    *,
    test_fraction: float,
    seeds: Sequence[int],
    on_stage: Progress | None = None,
) -> tuple[dict[str, tuple[StageRun, ...]], Finding]:
    """Train every stage with every seed, stage name -> runs in the order of the seeds, and beside that do the `work`.

    Seeds run side by side, one thread each, on as many threads as the settings allow. `on_stage(seed, stage)` is
    called, from those threads, after each.

    The work needs the stages of the first seed alone. It comes after the last seed has begun, where a core would else
    have nothing to do. It is given those stages and what its own training has to watch: that stops it once the whole is
    given up.
    """
    threads = settings.threads or available_cores()
    workers = min(threads, len(seeds))
    alone = replace(settings, threads=max(1, threads // workers))
    examples, _ = usable_examples(examples, settings.outcome, "can be learned from")
    stop = Event()

    def go_on(_: Sweep) -> None:
        if stop.is_set():
            raise CancelledError

    def one_seed(seed: int) -> list[StageRun]:
        runs: list[StageRun] = []
        for run in _stages_of_seed(examples, alone, test_fraction, seed, go_on):
            runs.append(run)
            if on_stage is not None:
                on_stage(seed, run.name)
        return runs

    pool = ThreadPoolExecutor(workers)
    try:
        begun = [pool.submit(one_seed, seed) for seed in seeds]
        beside = pool.submit(lambda: work(begun[0].result(), go_on))
        by_seed = [seed.result() for seed in begun]
        finding = beside.result()
    finally:  # an error or an interrupt need not wait for the other seeds
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)
    return {runs[0].name: tuple(runs) for runs in zip(*by_seed, strict=True)}, finding


def _stages_of_seed(
    examples: Examples, settings: TrainingSettings, test_fraction: float, seed: int, watch: Watch
) -> Iterator[StageRun]:
    test, train = split_random(examples, test_fraction, seed)
    if not np.any(test.weight > 0.0):
        raise DataError(
            f"evaluation.test_fraction: {test_fraction} of {len(examples)} rows leaves none to judge by"
        )
    names = stage_names(settings)
    stages = [_stage(settings, number) for number in range(len(names))]
    for name, training in zip(names, fit_stages(train, stages, watch=watch), strict=True):
        scores = training.model.score(test, threads=settings.threads)
        yield StageRun(name, seed, training, test, scores)


def _stage(settings: TrainingSettings, number: int) -> TrainingSettings:
    """The settings with the first `number` random effects."""
    random = settings.random[:number]
    known = {FIXED, *(effect.name for effect in random)}
    sequence = None
    if settings.sequence is not None:
        sequence = tuple(name for name in settings.sequence if name in known) or None
    return replace(settings, random=random, sequence=sequence)


def entity_sizes(model: GameModel, examples: Examples) -> Mapping[str, EntitySizes]:
    """For each kind of entity, each row's entity and how many rows the model learned of it.

    A row without an entity counts as one of its own, which nothing was learned of.
    """
    sizes = {}
    for effect in model.random:
        column = examples.entities[effect.kind]
        rows = np.append(effect.row_count, 0)[effect.find(column)]
        own = len(column.names) + np.arange(len(examples))
        codes = np.where(column.codes == MISSING, own, column.codes).astype(np.int64)
        sizes[effect.kind] = EntitySizes(codes, rows)
    return sizes


def judge(
    model: GameModel,
    scores: Scores,
    examples: Examples,
    *,
    baseline: Floats | None = None,
    seed: int = 0,
    resamples: int = 200,
) -> Evaluation:
    """Evaluate predictions of `examples`, with intervals, overall and by entity size.

    `baseline` float64[n] are the mean responses another model predicts.
    """
    normal = model.outcome is Outcome.NORMAL
    return evaluate(
        examples.response,
        scores.mean,
        examples.weight,
        model.outcome,
        entity_sizes(model, examples),
        np.random.default_rng(seed),
        prediction_std=scores.std if normal else None,
        baseline=baseline,
        resamples=resamples,
    )


def stage_of(runs: Sequence[StageRun]) -> Stage:
    """The metrics of one stage with every seed."""
    values: dict[str, tuple[float, ...]] = {}
    for run in runs:
        normal = run.training.model.outcome is Outcome.NORMAL
        measures = Measures.prepare(
            run.training.model.outcome,
            run.test.response,
            run.scores.mean,
            run.scores.std if normal else None,
        )
        found = measures.of(run.test.weight[None, :])[0]
        for name, value in zip(measures.names, found, strict=True):
            values[name] = (*values.get(name, ()), float(value))
    return Stage(runs[0].name, values)
