"""Generated rows: always the same, and from the truth they come with."""

import numpy as np
import pytest

from nearline.batch.tables import examples_from_table
from nearline.datasets.generated import DEVICES, GENRES, MAPPING, generate


def test_the_same_seed_generates_the_same_rows():
    assert generate(500, 3).table.equals(generate(500, 3).table)
    assert not generate(500, 3).table.equals(generate(500, 4).table)


@pytest.mark.parametrize("rows", [1, 2, 1000])
def test_any_number_of_rows_makes_examples(rows):
    generated = generate(rows, 1)
    examples = examples_from_table(generated.table, MAPPING)
    assert len(examples) == rows
    assert set(examples.entities) == {"user", "item"}
    assert set(np.unique(examples.response)) <= {0.0, 1.0}


def test_every_entity_has_true_coefficients_and_every_feature_a_true_effect():
    generated = generate(3000, 1)
    for effect, column in (("per-user", "user"), ("per-item", "item")):
        numbers = {
            int(name.removeprefix(f"{column}-")) for name in generated.table[column].unique().to_pylist()
        }
        for values in generated.truth[effect].coefficients.values():
            assert max(numbers) < len(values)
    known = set(generated.truth["fixed"].coefficients)
    assert known >= {f"genre = {genre}" for genre in GENRES} | {f"device = {device}" for device in DEVICES}


def test_clicks_follow_the_true_model():
    generated = generate(60_000, 2)
    table, truth = generated.table.to_pydict(), generated.truth
    fixed = {name: float(values[0]) for name, values in truth["fixed"].coefficients.items()}
    user, item = truth["per-user"].coefficients, truth["per-item"].coefficients
    logit = np.empty(generated.table.num_rows)
    columns = zip(*(table[c] for c in ("user", "item", "genre", "length", "age", "device")), strict=True)
    for row, (who, what, genre, length, age, device) in enumerate(columns):
        u, i = int(who[5:]), int(what[5:])
        logit[row] = (
            fixed["(intercept)"]
            + fixed["length"] * length
            + fixed["age"] * age
            + fixed[f"genre = {genre}"]
            + fixed[f"device = {device}"]
            + user["(intercept)"][u]
            + user["length"][u] * length
            + user[f"genre = {genre}"][u]
            + item["(intercept)"][i]
            + item["age"][i] * age
        )
    probability = 1.0 / (1.0 + np.exp(-logit))
    clicked = np.array(table["clicked"])
    for low in np.arange(0.0, 1.0, 0.2):
        chosen = (probability >= low) & (probability < low + 0.2)
        expected, spread = probability[chosen].mean(), np.sqrt(chosen.sum() * 0.25) / chosen.sum()
        assert abs(clicked[chosen].mean() - expected) < 4 * spread
