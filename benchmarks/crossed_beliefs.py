"""How sure beliefs of two crossed effects are, beside the joint posterior: a small table.

    python -m benchmarks.crossed_beliefs [--rows 9000] [--seeds 1 2 3 4]

Models are trained on generated rows whose truth is known. The joint posterior is the Laplace approximation at the same
modes and under the same priors, as one dense matrix, the fixed effect known or not. "in turn" are beliefs that
take the other effect as known.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import TypeAlias

import numpy as np
from scipy.sparse import block_diag, csr_array, eye_array, hstack, kron

from nearline.arrays import Csr, Floats
from nearline.batch.descent import fit_game
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.batch.tables import examples_from_table
from nearline.datasets.generated import MAPPING, Generated, generate
from nearline.model.effects import RandomEffect, design, entity_column
from nearline.model.examples import Examples
from nearline.model.features import feature_labels
from nearline.model.game import GameModel
from nearline.posterior import outcomes

NORMAL_90 = 1.6448536269514722
SHOWN = (
    ("per-user", "(intercept)"),
    ("per-user", "length"),
    ("per-item", "(intercept)"),
    ("per-item", "age"),
)
Variances: TypeAlias = Mapping[str, Floats]
"""By effect, float64[entities, columns]."""


def trained(examples: Examples, sweeps: int = 10) -> GameModel:
    """The model of `nearline demo`."""
    effects = (
        RandomSettings("per-user", "user", ("of_item",)),
        RandomSettings("per-item", "item", ("of_user",)),
    )
    settings = TrainingSettings(fixed=FixedSettings(("context",)), random=effects, sweeps=sweeps)
    return fit_game(examples, settings).model


def stored(model: GameModel) -> Variances:
    """Of the beliefs the model keeps."""
    return {
        effect.name: np.stack([effect.coefficient(c)[1] ** 2 for c in range(len(effect.registry))], axis=1)
        for effect in model.random
    }


def joint(model: GameModel, examples: Examples) -> dict[str, Variances]:
    """Of beliefs in turn, and of the joint posterior with the fixed effect known and not."""
    linear = model.score(examples).linear
    weight = examples.weight * outcomes.curvature(model.outcome, linear)
    designs = [_by_entity(effect, examples) for effect in model.random]
    fixed = design(model.fixed.registry, model.fixed.bags, examples, grow=False)
    x = hstack([*designs, fixed], format="csr")
    priors = [kron(eye_array(effect.entities), effect.prior.precision) for effect in model.random]
    penalty = eye_array(fixed.shape[1])
    precision = (x.T @ x.multiply(weight[:, None]) + block_diag([*priors, penalty])).toarray()
    random = precision[: -fixed.shape[1], : -fixed.shape[1]]
    return {
        "in turn": _split(_in_turn(random, model), model),
        "joint, fixed effect known": _split(np.diag(np.linalg.inv(random)), model),
        "joint": _split(np.diag(np.linalg.inv(precision)), model),
    }


def _by_entity(effect: RandomEffect, examples: Examples) -> Csr:
    rows = design(effect.registry, effect.bags, examples, grow=False).tocoo()
    place, d = effect.find(entity_column(examples, effect.kind)), len(effect.registry)
    row, column = rows.coords
    shape = (len(examples), d * effect.entities)
    return csr_array((rows.data, (row, place[row] * d + column)), shape=shape)


def _in_turn(precision: Floats, model: GameModel) -> Floats:
    parts, begin = [], 0
    for effect in model.random:
        for _ in range(effect.entities):
            end = begin + len(effect.registry)
            parts.append(np.diag(np.linalg.inv(precision[begin:end, begin:end])))
            begin = end
    return np.concatenate(parts)


def _split(values: Floats, model: GameModel) -> Variances:
    sizes = [effect.entities * len(effect.registry) for effect in model.random]
    parts = np.split(values, np.cumsum(sizes))
    return {e.name: part.reshape(e.entities, -1) for e, part in zip(model.random, parts, strict=False)}


def rows_of(generated: Generated) -> Iterator[tuple[str, str, str, float, float]]:
    """Effect, coefficient, kind of belief, mean variance, and the share of true values in 90 % intervals."""
    examples = examples_from_table(generated.table, MAPPING)
    model = trained(examples)
    kinds = joint(model, examples)
    kinds = {"in turn": kinds.pop("in turn"), "stored": stored(model), **kinds}
    for name, label in SHOWN:
        effect, truth = model.effect(name), generated.truth[name]
        column = feature_labels(effect.registry).index(label)
        number = np.array([int(str(n).removeprefix(truth.prefix)) for n in effect.names.to_pylist()])
        error = np.abs(effect.coefficient(column)[0] - truth.coefficients[label][number])
        for kind, variances in kinds.items():
            variance = variances[name][:, column]
            yield (
                name,
                label,
                kind,
                float(variance.mean()),
                float(np.mean(error <= NORMAL_90 * variance**0.5)),
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=9000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    asked = parser.parse_args()
    found: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
    for seed in asked.seeds:
        for name, label, kind, variance, covered in rows_of(generate(asked.rows, seed)):
            found.setdefault((name, label, kind), []).append((variance, covered))
    print("| effect | coefficient | belief | mean variance | in 90 % |\n|---|---|---|---:|---:|")
    for (name, label, kind), values in found.items():
        variance, covered = np.mean(values, axis=0)
        print(f"| {name} | {label} | {kind} | {variance:.4f} | {covered:.1%} |")


if __name__ == "__main__":
    main()
