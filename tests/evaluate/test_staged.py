"""Stages: nested models, judged on the same rows held out, seeds side by side."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from nearline.batch.descent import fit_game
from nearline.errors import DataError
from nearline.evaluate.staged import entity_sizes, judge, run_stages, stage_names, stage_of
from nearline.model.examples import split_random
from simulated import FILM, NORMAL, SETTINGS, USER, assert_same_model, examples, trained


def run(rows, settings, **choices):
    return run_stages(lambda *_: None, rows, settings, **choices)[0]


def test_every_stage_is_trained_with_every_seed_and_judged_on_the_rows_it_has_not_seen():
    seen = []
    rows = examples(200)
    stages = run(
        rows,
        SETTINGS,
        test_fraction=0.25,
        seeds=(3, 4),
        on_stage=lambda seed, name: seen.append((seed, name)),
    )
    assert tuple(stages) == stage_names(SETTINGS) == ("fixed", "+ per-user", "+ per-film")
    assert sorted(seen) == sorted((seed, name) for seed in (3, 4) for name in stages)
    for number, runs in enumerate(stages.values()):
        assert [run.seed for run in runs] == [3, 4]
        assert all(len(run.training.model.random) == number for run in runs)
        test, _ = split_random(rows, 0.25, 3)
        np.testing.assert_array_equal(runs[0].test.response, test.response)
        np.testing.assert_array_equal(runs[0].scores.linear, runs[0].training.model.score(test).linear)


def test_seeds_side_by_side_give_what_they_give_one_after_the_other():
    rows = examples(120)
    one = run(rows, SETTINGS, test_fraction=0.2, seeds=(1, 2), on_stage=None)
    four = run(rows, replace(SETTINGS, threads=4), test_fraction=0.2, seeds=(1, 2))
    for name, runs in one.items():
        for mine, theirs in zip(runs, four[name], strict=True):
            assert_same_model(mine.training.model, theirs.training.model)


def test_a_sequence_is_cut_to_the_effects_of_each_stage():
    how = replace(SETTINGS, sequence=("per-film", "fixed", "per-user"))
    stages = run(examples(120), how, test_fraction=0.2, seeds=(1,))
    assert [len(runs[0].training.model.random) for runs in stages.values()] == [0, 1, 2]


def test_a_share_held_out_for_validation_is_held_out_in_every_stage():
    how = replace(SETTINGS, validation_fraction=0.25)
    stages = run(examples(200), how, test_fraction=0.2, seeds=(1,))
    for runs in stages.values():
        assert all(sweep.validation_loss is not None for sweep in runs[0].training.sweeps)
    assert stages["+ per-user"][0].training.model.random[0].row_count.sum() == 120


def test_rows_that_cannot_be_learned_from_are_not_judged_by_either():
    rows = examples(100)
    response = rows.response.copy()
    response[:20] = np.nan
    stages = run(replace(rows, response=response), SETTINGS, test_fraction=0.25, seeds=(1,))
    assert len(stages["fixed"][0].test) == 20
    assert np.isfinite(stage_of(stages["fixed"]).scores["log_loss"]).all()


def test_too_few_rows_to_hold_any_out_are_refused():
    with pytest.raises(DataError, match=r"evaluation.test_fraction: 0\.1 of 4 rows leaves none to judge by"):
        run(examples(4), SETTINGS, test_fraction=0.1, seeds=(1,))


def test_an_error_in_one_seed_ends_all_of_them():
    class StopHereError(Exception):
        pass

    def stop(seed, name):
        raise StopHereError

    with pytest.raises(StopHereError):
        run(examples(100), SETTINGS, test_fraction=0.2, seeds=tuple(range(8)), on_stage=stop)


def test_sizes_are_rows_learned_and_a_row_without_an_entity_is_one_of_its_own():
    model, _ = trained(60, user=pa.array(["ann"] * 40 + ["bob"] * 20))
    rows = examples(5, user=pa.array(["bob", None, "ann", "cleo", None]))
    sizes = entity_sizes(model, rows)["user"]
    assert sizes.training_rows.tolist() == [20, 0, 40, 0, 0]
    assert len(set(sizes.codes.tolist())) == 5


def test_two_effects_of_one_kind_are_judged_within_it_once():
    how = replace(SETTINGS, random=(replace(USER, bags=()), replace(USER, name="taste")))
    model, rows = trained(150, how)
    evaluation = judge(model, model.score(rows), rows, resamples=10)
    assert [m.entity_type for m in evaluation.overall.metrics if m.metric == "per_entity_auc"] == ["user"]


def test_judging_a_normal_model_measures_the_coverage_of_its_intervals():
    model, rows = trained(400, NORMAL)
    evaluation = judge(model, model.score(rows), rows, resamples=10)
    found = {metric.metric: metric.estimate.value for metric in evaluation.overall.metrics}
    np.testing.assert_allclose(
        [found["coverage_50"], found["coverage_80"], found["coverage_95"]], [0.5, 0.8, 0.95], atol=0.08
    )


def test_a_random_effect_earns_its_keep():
    rows = examples(3000, users=60)
    stages = run(
        rows, replace(SETTINGS, random=(USER, replace(FILM, bags=()))), test_fraction=0.3, seeds=(1, 2)
    )
    auc = [np.mean(stage_of(runs).scores["auc"]) for runs in stages.values()]
    assert auc[0] + 0.02 < auc[1] < auc[2]


def test_the_model_of_a_stage_is_that_of_training_it_alone():
    random = tuple(replace(effect, prior_variance=0.5) for effect in NORMAL.random)
    how = replace(NORMAL, random=random, sweeps=40, tolerance=0.0)
    normal = examples(150, outcome=NORMAL.outcome)
    test, train = split_random(normal, 0.2, 1)
    staged = run(normal, how, test_fraction=0.2, seeds=(1,))["+ per-film"][0]
    alone = fit_game(train, how).model.score(test).linear
    np.testing.assert_allclose(staged.scores.linear, alone, atol=1e-3)
