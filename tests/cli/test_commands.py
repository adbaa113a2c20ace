"""Every command on small rows: what it writes, and what it says to people and to programs."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from command_line import CONFIG, write

from nearline.model.saved import load_model
from simulated import table


def test_training_writes_a_model_and_a_report_and_shows_each_stage(trained_folder, tmp_path, nearline):
    model = tmp_path / "new folder" / "m.model"
    code, out, err = nearline("train", trained_folder / "config.toml", "--model", model)
    assert (code, err) == (0, "")
    assert "+ per-film" in out
    assert (tmp_path / "new folder" / "m.html").read_text().startswith("<!DOCTYPE html>")
    saved, metadata = load_model(model)
    assert metadata["rows"] == 300
    assert [effect.entities for effect in saved.random] == [12, 7]


def test_training_tells_programs_the_same(trained_folder, tmp_path, nearline_json):
    document = nearline_json("train", trained_folder / "config.toml", "--model", tmp_path / "m")
    assert list(document["stages"]) == ["fixed", "+ per-user", "+ per-film"]
    assert document["rows"] == 300
    assert document["evaluation"]["rows"] == 60
    assert set(document["seconds"]) >= {"read", "train on all rows", "save"}


def test_training_without_rows_held_out_writes_no_report_and_says_so(trained_folder, tmp_path, nearline):
    (tmp_path / "c.toml").write_text(CONFIG + "test_fraction = 0.0\n")
    code, out, err = nearline(
        "train", tmp_path / "c.toml", "--data", trained_folder, "--model", tmp_path / "m"
    )
    assert code == 0
    assert "no report: evaluation.test_fraction is 0" in err
    assert "report" not in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.toml", "m"]


def test_rows_held_out_for_validation_are_held_out_of_the_model_that_is_saved(
    trained_folder, tmp_path, nearline
):
    (tmp_path / "c.toml").write_text(CONFIG.replace("sweeps = 2", "sweeps = 2\nvalidation_fraction = 0.1"))
    assert nearline("train", tmp_path / "c.toml", "--data", trained_folder, "--model", tmp_path / "m")[0] == 0
    assert load_model(tmp_path / "m")[0].random[0].row_count.sum() == 270


def test_models_whose_names_differ_after_a_dot_have_reports_of_their_own(
    trained_folder, tmp_path, nearline_json
):
    first = nearline_json("train", trained_folder / "config.toml", "--model", tmp_path / "2024.1")
    second = nearline_json("train", trained_folder / "config.toml", "--model", tmp_path / "2024.2")
    assert first["report"] != second["report"]


def test_rows_without_a_label_are_set_aside_and_counted_wherever_they_fall(
    trained_folder, tmp_path, nearline
):
    labels = table(300, users=12)["y"].to_pylist()
    rows = table(300, users=12, y=pa.array([None] * 30 + labels[30:]))
    write(tmp_path / "rows.csv", rows)
    (tmp_path / "c.toml").write_text(CONFIG)
    code, _, err = nearline("train", tmp_path / "c.toml", "--model", tmp_path / "m")
    assert code == 0
    assert "warning: 30 rows set aside: response is not a finite number" in err
    code, _, err = nearline(
        "evaluate", tmp_path / "m", tmp_path / "rows.csv", "--report", tmp_path / "e.html"
    )
    assert code == 0
    assert "warning: 30 rows set aside: response is not a finite number" in err


def test_labels_that_are_all_equal_in_the_test_rows_leave_metrics_undefined_but_the_json_valid(
    tmp_path, nearline_json
):
    y = np.zeros(100)
    y[0] = 1.0
    write(tmp_path / "rows.csv", table(100, y=y))
    (tmp_path / "c.toml").write_text(CONFIG)
    document = nearline_json("train", tmp_path / "c.toml", "--model", tmp_path / "m")
    assert document["stages"]["fixed"]["auc"]["mean"] is None


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv"])
def test_scores_have_a_row_for_each_row_and_parts_that_sum(trained_folder, tmp_path, nearline_json, name):
    document = nearline_json(
        "score", trained_folder / "a.model", trained_folder / "new.parquet", "--out", tmp_path / name
    )
    assert (document["rows"], document["without_score"]) == (60, 0)
    scores = (pq.read_table if name.endswith("parquet") else pyarrow.csv.read_csv)(tmp_path / name)
    parts = [np.array(scores[column]) for column in scores.column_names if column.startswith("contribution_")]
    assert len(parts) == 4
    np.testing.assert_allclose(sum(parts), np.array(scores["linear"]), atol=1e-12)


def test_rows_to_score_need_neither_response_nor_weight(trained_folder, tmp_path, nearline):
    rows = write(tmp_path / "bare.parquet", table(5).drop(["y", "weight"]))
    assert nearline("score", trained_folder / "a.model", rows, "--out", tmp_path / "s.csv")[0] == 0


def test_rows_that_cannot_be_scored_are_counted(trained_folder, tmp_path, nearline):
    rows = write(tmp_path / "rows.parquet", table(5, x=np.array([1.0, np.inf, 2.0, np.nan, 0.0])))
    code, out, err = nearline("score", trained_folder / "a.model", rows, "--out", tmp_path / "s.csv")
    assert code == 0
    assert "5 rows scored" in out
    assert "warning: 2 rows have no score" in err


def test_evaluating_shows_metrics_beside_the_fixed_effect_and_writes_a_report(
    trained_folder, tmp_path, nearline
):
    arguments = [
        "evaluate",
        trained_folder / "a.model",
        trained_folder / "new.parquet",
        "--report",
        tmp_path / "e.html",
    ]
    code, out, err = nearline(*arguments, "--resamples", "10")
    assert (code, err) == (0, "")
    assert "gain over the fixed effect" in out
    assert (tmp_path / "e.html").stat().st_size > 1000
    code, out, _ = nearline(*arguments, "--resamples", "10", "--json")
    assert json.loads(out)["rows"] == 60


def test_rows_without_an_entity_are_nobody_in_particular(trained_folder, tmp_path, nearline_json):
    user = pa.array(["u1"] * 30 + [None] * 30, pa.string())
    rows = write(tmp_path / "rows.parquet", table(60, user=user))
    document = nearline_json("evaluate", trained_folder / "a.model", rows, "--report", tmp_path / "e.html")
    within = [
        m for m in document["metrics"] if m["metric"] == "per_entity_auc" and m["entity_type"] == "user"
    ]
    assert within[0]["entities"] == 1


def test_a_refit_keeps_what_was_learned_and_learns_the_new_rows(trained_folder, tmp_path, nearline_json):
    out = tmp_path / "m2"
    document = nearline_json(
        "refit", trained_folder / "a.model", trained_folder / "new.parquet", "--out", out
    )
    assert document["entities"] == {"per-user": 14, "per-film": 7}
    old, (new, metadata) = load_model(trained_folder / "a.model")[0], load_model(out)
    assert metadata["rows"] == 360
    np.testing.assert_array_equal(new.fixed.coefficients, old.fixed.coefficients)
    again = nearline_json("refit", out, trained_folder / "new.parquet", "--level", "1")
    assert again["model"] == str(out)
    assert not np.array_equal(load_model(out)[0].fixed.coefficients, old.fixed.coefficients)


def test_a_refit_from_nothing_forgets_the_evidence(trained_folder, tmp_path, nearline_json):
    out = tmp_path / "m2"
    rows = trained_folder / "new.parquet"
    nearline_json("refit", trained_folder / "a.model", rows, "--out", out, "--keep", "nothing")
    model, metadata = load_model(out)
    assert metadata["rows"] == 60
    assert model.random[0].row_count.sum() == 60


@pytest.mark.data
def test_a_model_of_a_public_data_set_goes_on_with_a_file_of_the_same_columns(
    tmp_path, nearline_json, data_directory
):
    from nearline.datasets.catalogue import load

    config = (
        CONFIG.split("[data]")[0]
        + '[data]\ndataset = "lambda_learner_u359"\n[evaluation]\ntest_fraction = 0.0\n'
    )
    (tmp_path / "c.toml").write_text(config)
    arguments = ["--data", data_directory, "--model", tmp_path / "m"]
    nearline_json_or_remark = nearline_json("train", tmp_path / "c.toml", *arguments)
    assert nearline_json_or_remark["rows"] > 0
    rows = write(tmp_path / "rows.parquet", load("lambda_learner_u359", data_directory).table.slice(0, 20))
    assert nearline_json("refit", tmp_path / "m", rows)["rows"] == 20


def test_inspecting_shows_an_entity_in_every_effect_that_knows_it(trained_folder, nearline, nearline_json):
    code, out, err = nearline("inspect", trained_folder / "a.model", "u3")
    assert (code, err) == (0, "")
    assert "per-user: user u3" in out
    assert "away from" in out
    document = nearline_json(
        "inspect", trained_folder / "a.model", "u3", "--top", "2", "--effect", "per-user"
    )
    (effect,) = document["effects"]
    assert len(effect["coefficients"]) == 2
    assert effect["more"] == 3
    assert (
        effect["rows_learned"]
        == load_model(trained_folder / "a.model")[0]
        .random[0]
        .row_count[load_model(trained_folder / "a.model")[0].random[0].names.to_pylist().index("u3")]
    )


def test_unicode_columns_strange_entities_and_integers_for_names_go_through_every_command(
    tmp_path, nearline_json
):
    rows = table(80).rename_columns(["y", "weight", "offset", "używacz", "film/é", "größe", "genre"])
    rows = rows.set_column(3, "używacz", pa.array([f"人/{i % 4} " for i in range(80)]))
    rows = rows.set_column(4, "film/é", pa.array([i % 5 for i in range(80)]))
    write(tmp_path / "rows.parquet", rows)
    config = CONFIG.replace("rows.csv", "rows.parquet").replace('["x", "genre"]', '["größe", "genre"]')
    config = config.replace('{ user = "user", film = "film" }', '{ user = "używacz", film = "film/é" }')
    (tmp_path / "ünï.toml").write_text(config, encoding="utf-8")
    model = tmp_path / "ünï.model"
    nearline_json("train", tmp_path / "ünï.toml", "--model", model)
    for entity in ("人/3 ", "4"):
        assert nearline_json("inspect", model, entity)["effects"][0]["rows_learned"] > 0
    assert nearline_json("refit", model, tmp_path / "rows.parquet")["entities"] == {
        "per-user": 4,
        "per-film": 5,
    }
    assert nearline_json("score", model, tmp_path / "rows.parquet", "--out", tmp_path / "s.csv")["rows"] == 80


def test_the_replayed_demo_shows_how_near_it_came_within_80_columns(tmp_path, nearline, monkeypatch):
    monkeypatch.delenv("NEARLINE_DATA", raising=False)
    code, out, err = nearline("demo", "--replay", "--rows", "1000", "--out", tmp_path / "demo")
    assert code == 0
    assert "1,000 generated impressions" in err
    assert "level 3 + refits" in out
    assert "The levels side by side" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    lines = out.splitlines()
    assert max(len(line.rstrip()) for line in lines if not line.startswith("report: ")) <= 80
    code, out, _ = nearline("demo", "--replay", "--rows", "1000", "--out", tmp_path / "demo", "--json")
    assert {row["feature"] for row in json.loads(out)["recovery"]} >= {"(intercept)", "length", "age"}
