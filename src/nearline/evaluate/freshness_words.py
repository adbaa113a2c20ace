"""What a replay found in sentences and tables."""

import math

from nearline.clock import UNITS_MS
from nearline.evaluate.catalogue import label, meaning
from nearline.evaluate.freshness_measures import CONFIDENCE, Freshness, LevelMeasures
from nearline.evaluate.freshness_report import ReplayReport
from nearline.evaluate.levels import IDEAL, LEVEL_0, LEVEL_1, LEVEL_2, LEVEL_3, WINDOW
from nearline.evaluate.replay import Stream
from nearline.evaluate.tables import Table
from nearline.evaluate.words import count, duration, interval, number, percent


def main_metric(found: Freshness) -> str:
    """The metric by which levels are told apart: a loss."""
    return {"BERNOULLI": "log_loss", "NORMAL": "rmse", "POISSON": "poisson_deviance"}[found.outcome.name]


def verdict(found: Freshness) -> str:
    """Return what freshness was worth, in sentences."""
    metric = main_metric(found)
    by_name = {level.name: level for level in found.levels}
    third = by_name[LEVEL_3]
    said = f"{LEVEL_3.capitalize()} reaches a {_lower(metric)} of {number(third.metrics[metric])}"
    if "auc" in third.metrics and math.isfinite(third.metrics["auc"]):
        said += f" and an AUC of {number(third.metrics['auc'], 3)}"
    sentences = [said + "."]
    if LEVEL_0 in by_name:
        sentences.append(_beside(by_name[LEVEL_0], metric, "A model trained once"))
    refitted = [level for level in found.levels if level.name in {LEVEL_1, LEVEL_2, WINDOW}]
    if refitted:
        best = min(refitted, key=lambda level: level.behind[metric].value)
        sentences.append(_beside(best, metric, f"The best that is only refitted now and then, {best.name},"))
    if IDEAL in by_name:
        sentences.append(_beside(by_name[IDEAL], metric, f"The ideal, {by_name[IDEAL].meaning},"))
    return " ".join(sentences)


def _beside(level: LevelMeasures, metric: str, who: str) -> str:
    behind = level.behind[metric]
    ends = interval(behind, sign=True)
    return f"{who} has {number(level.metrics[metric])}: {number(behind.value, sign=True)} ({ends})."


def _lower(metric: str) -> str:
    name = label(metric)
    return name if name.isupper() else name[0].lower() + name[1:]


def provenance(found: Freshness) -> str:
    """Return on what the numbers rest."""
    drawn = "single rows" if found.resampled_by is None else f"whole entities ({found.resampled_by})"
    return (
        f"Measured on {count(found.rows)} rows, each scored before any level learned it, with labels used only once "
        f"they are known. Differences are to {LEVEL_3}; their {percent(CONFIDENCE, 0)} intervals come from "
        f"{found.resamples} bootstrap resamples of {drawn}."
    )


def levels_table(found: Freshness) -> Table:
    """Return one row for each level."""
    metric = main_metric(found)
    metrics = list(found.levels[0].metrics)
    recovered = any(math.isfinite(level.recovered) for level in found.levels)
    columns = ["Level", "Refits", *(label(name) for name in metrics)]
    columns += [f"{label(metric)} above {LEVEL_3}"] + (["Gain recovered"] if recovered else []) + ["Time"]
    rows = []
    for level in found.levels:
        behind = level.behind[metric]
        cells = [level.name, count(level.refits), *(number(level.metrics[name]) for name in metrics)]
        same = level.name == LEVEL_3
        cells.append("" if same else f"{number(behind.value, sign=True)} ({interval(behind, sign=True)})")
        cells += [percent(level.recovered, 0)] if recovered else []
        rows.append((*cells, duration(level.seconds)))
    return Table("All rows that are judged", tuple(columns), tuple(rows))


def meanings_table(found: Freshness) -> Table:
    """Return what levels and columns are."""
    rows = [(level.name, level.meaning) for level in found.levels]
    rows += [(label(name), meaning(name)) for name in found.levels[0].metrics]
    recovered = (
        f"the loss it saves over {LEVEL_0}, as a share of what the ideal saves; the ideal weighs old rows as new "
        "ones, so where tastes drift a level that forgets can save more"
    )
    rows.append(("Gain recovered", recovered))
    rows.append(("Time", "of the whole level, the training of the first model aside"))
    return Table("What it all is", ("Name", "Meaning"), tuple(rows))


def how_tables(report: ReplayReport) -> tuple[Table, ...]:
    """Return the facts of the stream and of level 3, and where the time went."""
    replayed = report.replayed
    stream = replayed.stream
    facts = [
        ("Rows", count(len(stream))),
        ("Rows that trained the first model", count(replayed.begin)),
        ("Rows judged", count(len(stream) - replayed.begin)),
    ]
    span = float(stream.time_ms[-1] - stream.time_ms[0])
    unit, size = time_unit(stream, span)
    facts.append((f"Length in {unit}", number(span / size, 1)))
    late = int((stream.known_ms > stream.time_ms).sum())
    facts.append(("Labels known later than their row", count(late)))
    facts += [
        (f"Entities, {kind}", count(len(stream.examples.entities[kind].names)))
        for kind in dict.fromkeys(effect.kind for effect in replayed.first_model.random)
    ]
    rules = tuple(
        (effect.name, rule_text(_constant(report, effect.name))) for effect in replayed.first_model.random
    )
    seconds = tuple((name, duration(took)) for name, took in replayed.seconds.items())
    tables = [Table("The stream", ("Fact", "Value"), tuple(facts))]
    if rules:
        tables.append(Table("What level 3 forgets", ("Effect", "Time constant"), rules))
    return (*tables, Table("Where the time went", ("Step", "Time"), seconds))


def _constant(report: ReplayReport, effect: str) -> float | None:
    rule = report.replayed.online.forgetting.get(effect)
    return None if rule is None else rule.time_constant_ms


def rule_text(time_constant_ms: float | None) -> str:
    """A time constant in the unit that suits it."""
    if time_constant_ms is None:
        return "none"
    for unit in ("d", "h", "min", "s"):
        if time_constant_ms >= UNITS_MS[unit]:
            return f"{time_constant_ms / UNITS_MS[unit]:.3g}\u00a0{unit}"
    return f"{time_constant_ms:.3g}\u00a0ms"


def time_unit(stream: Stream, span_ms: float) -> tuple[str, float]:
    """The unit that suits a length of the stream, and its size in ms; rows where the stream has no times."""
    if stream.examples.time_ms is None:
        return "rows", 1.0
    for unit, name in (("d", "days"), ("h", "hours"), ("min", "minutes"), ("s", "seconds")):
        if span_ms > 4.0 * UNITS_MS[unit]:
            return name, float(UNITS_MS[unit])
    return "milliseconds", 1.0
