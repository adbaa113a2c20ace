"""One entity of one effect: what is believed of it, as a document for people and for programs."""

from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from nearline.model.effects import RandomEffect
from nearline.model.features import feature_labels

OWN_ROWS: Final = "own rows and population prior"
"""Where a coefficient that the entity's rows touched comes from."""


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
            "from": OWN_ROWS if j in touched else "population prior",
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
