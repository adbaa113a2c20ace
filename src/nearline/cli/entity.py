"""One entity of one effect: its belief in words and numbers, for people and for programs."""

import math
from typing import Any

import numpy as np
import pyarrow.compute as pc
from rich.box import SIMPLE_HEAD
from rich.table import Table

from nearline.cli.console import Output
from nearline.evaluate.describe import feature_labels
from nearline.model.effects import RandomEffect

_OWN = "own rows and population prior"


def describe(effect: RandomEffect, entity: str, top: int) -> dict[str, Any]:
    """What is believed of an entity of the effect: the coefficients furthest from the prior, `top` of them."""
    belief, columns = effect.belief(entity)
    place = pc.index(effect.names, entity).as_py()
    touched = set(effect.evidence.columns_of(place).tolist())
    labels = feature_labels(effect.registry)
    bags = effect.registry.to_table().column("bag").to_pylist()
    std, prior_std = belief.std, effect.prior.std
    coefficients: list[dict[str, Any]] = [
        {
            "bag": bags[j],
            "feature": labels[j],
            "mean": float(belief.mean[i]),
            "std": float(std[i]),
            "prior_mean": float(effect.prior.mean[j]),
            "prior_std": float(prior_std[j]),
            "from": _OWN if j in touched else "population prior",
        }
        for i, j in enumerate(map(int, columns))
    ]
    coefficients.sort(key=lambda row: -abs(row["mean"] - row["prior_mean"]) / row["std"])
    return {
        "effect": effect.name,
        "kind": effect.kind,
        "entity": entity,
        "rows_learned": int(effect.row_count[place]),
        "coefficients": coefficients[:top],
        "more": max(0, len(coefficients) - top),
        "information_nats": information(effect, entity),
    }


def information(effect: RandomEffect, entity: str) -> float:
    """How much the entity's rows taught: half the log ratio of posterior to prior precision, in nats."""
    belief, columns = effect.belief(entity)
    if belief.is_diagonal:
        prior = effect.prior.precision[columns]
        return float(0.5 * np.sum(np.log(belief.precision / prior)))
    _, posterior = np.linalg.slogdet(belief.precision)
    prior_precision = effect.prior.precision
    if effect.prior.is_diagonal:
        prior_precision = np.diag(prior_precision[columns])
    return float(0.5 * (posterior - np.linalg.slogdet(prior_precision)[1]))


def show(document: dict[str, Any], output: Output) -> None:
    """Show what `describe` returns."""
    title = (
        f"{document['effect']}: {document['kind']} {document['entity']}, {document['rows_learned']:,} rows learned, "
        f"{document['information_nats']:.1f} nats"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("\ncoefficient")
    for column in ("\nmean", "\nstd", "away from\nprior", "prior\nmean", "prior\nstd"):
        table.add_column(column, justify="right")
    table.add_column("\nfrom")
    for row in document["coefficients"]:
        away = (row["mean"] - row["prior_mean"]) / row["std"] if row["std"] > 0 else math.nan
        table.add_row(
            row["feature"],
            f"{row['mean']:+.3f}",
            f"{row['std']:.3f}",
            f"{away:+.1f} std",
            f"{row['prior_mean']:+.3f}",
            f"{row['prior_std']:.3f}",
            "own rows" if row["from"] == _OWN else "prior alone",
        )
    output.table(table)
    if document["more"]:
        output.line(f"{document['more']} more coefficients; show them with --top")
