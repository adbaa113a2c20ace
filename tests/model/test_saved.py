"""Saved models: bit for bit what was trained, whatever the names, and never half of one on disk."""

import json
import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearline.batch.descent import fit_game
from nearline.errors import ModelError
from nearline.model.saved import load_model, save_model
from nearline.posterior.outcomes import Outcome
from simulated import FILM, SETTINGS, USER, assert_same_model, examples, trained

names = st.lists(
    st.text(max_size=8).filter(lambda s: s.isprintable() or "/" in s), min_size=2, max_size=6, unique=True
)


@pytest.fixture(scope="module")
def model():
    return trained()[0]


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("precision", ["full", "diagonal"])
def test_a_loaded_model_predicts_bit_for_bit_what_the_saved_one_does(tmp_path, outcome, precision):
    random = (
        replace(USER, precision=precision, estimate_prior_mean=True),
        replace(FILM, precision=precision),
    )
    saved, rows = trained(settings=replace(SETTINGS, outcome=outcome, random=random))
    save_model(saved, tmp_path / "m", {"why": "ünï", "n": 3})
    loaded, metadata = load_model(tmp_path / "m")
    assert metadata == {"why": "ünï", "n": 3}
    assert_same_model(loaded, saved)
    for field in ("linear", "variance", "mean", "std"):
        np.testing.assert_array_equal(getattr(loaded.score(rows), field), getattr(saved.score(rows), field))
    new = examples(20, seed=3, outcome=outcome, genre=pa.array(["brand new"] * 20))
    how = replace(SETTINGS, outcome=outcome, random=random)
    assert_same_model(
        fit_game(new, how, start=loaded, incremental=True).model,
        fit_game(new, how, start=saved, incremental=True).model,
    )


@given(names, names)
@settings(max_examples=8)
def test_names_of_entities_and_features_come_back_as_they_were(tmp_path_factory, entities, terms):
    user = pa.array([entities[i % len(entities)] for i in range(40)])
    genre = pa.array([terms[i % len(terms)] for i in range(40)])
    saved = fit_game(examples(40, user=user, genre=genre), replace(SETTINGS, sweeps=1)).model
    folder = tmp_path_factory.mktemp("names") / "ünï cødé.model"
    save_model(saved, folder)
    loaded, _ = load_model(folder)
    assert loaded.random[0].names.to_pylist() == entities
    assert loaded.random[0].registry == saved.random[0].registry
    assert loaded.random[0].registry.column("b", "genre", terms[0]) is not None


def test_a_precision_of_ten_thousand_and_tiny_variances_are_kept_exactly(tmp_path, model):
    effect = model.random[0]
    sure = replace(
        effect.evidence, precision=effect.evidence.precision + 1e4, mean=effect.evidence.mean * 1e-9
    )
    certain = replace(model, random=(replace(effect, evidence=sure), *model.random[1:]))
    save_model(certain, tmp_path / "m")
    assert_same_model(load_model(tmp_path / "m")[0], certain)


def test_loading_a_model_does_not_load_pandas(tmp_path, model):
    """It takes longer to load than everything a worker needs to start."""
    save_model(model, tmp_path / "model")
    code = f"import sys; from nearline.model.saved import load_model; load_model({str(tmp_path / 'model')!r})"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code + "; sys.exit('pandas' in sys.modules)"], check=False
    )
    assert done.returncode == 0


def test_a_model_replaces_the_one_before(tmp_path, model):
    save_model(model, tmp_path / "m", {"n": 1})
    save_model(model, tmp_path / "m", {"n": 2})
    assert load_model(tmp_path / "m")[1] == {"n": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_link_to_a_model_stays_a_link(tmp_path, model):
    save_model(model, tmp_path / "m")
    (tmp_path / "current").symlink_to(tmp_path / "m")
    save_model(model, tmp_path / "current", {"n": 2})
    assert (tmp_path / "current").is_symlink()
    assert load_model(tmp_path / "m")[1] == {"n": 2}


def test_a_model_can_be_saved_in_the_current_folder(tmp_path, model, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_model(model, ".")
    assert load_model(tmp_path / "here")[0].random[0].entities == 10


@pytest.mark.parametrize("there", ["notes.txt", "folder/x", "model.json", "model.json and notes.txt"])
def test_what_is_not_a_model_is_never_replaced(tmp_path, model, there):
    folder = tmp_path / "m"
    for name in there.split(" and "):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"format": "something else", "format_version": 1}')
    before = sorted(folder.rglob("*"))
    with pytest.raises(ModelError, match="m"):
        save_model(model, folder)
    assert sorted(folder.rglob("*")) == before


def test_notes_kept_beside_a_model_are_not_deleted_with_it(tmp_path, model):
    save_model(model, tmp_path / "m")
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"found 'notes.txt'"):
        save_model(model, tmp_path / "m")
    assert (tmp_path / "m" / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way_is_said_to_be_one(tmp_path, model):
    (tmp_path / "m").write_text("mine")
    with pytest.raises(ModelError, match="expected a new or empty folder or a model to replace"):
        save_model(model, tmp_path / "m")


def test_the_old_model_comes_back_where_the_new_one_cannot_be_moved_into_place(tmp_path, model):
    from nearline.model.saved import _move_into_place

    save_model(model, tmp_path / "m", {"n": 1})
    with pytest.raises(FileNotFoundError):
        _move_into_place(tmp_path / "was never written", tmp_path / "m")
    assert load_model(tmp_path / "m")[1] == {"n": 1}


def test_a_save_cut_short_between_the_renames_says_where_the_old_model_is(tmp_path, model):
    save_model(model, tmp_path / "m")
    (tmp_path / "m").rename(tmp_path / ".m.123.old")
    with pytest.raises(ModelError, match=r"the model that was there is .*\.m\.123\.old: move it back"):
        load_model(tmp_path / "m")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from nearline.errors import ModelError
from nearline.model.saved import load_model, save_model
folder = Path(sys.argv[1])
model, _ = load_model(folder)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    save_model(model, folder, {"n": 2})
except ModelError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on the size of files")
@pytest.mark.parametrize("limit", [0, 3000])
def test_a_full_disk_leaves_the_old_model(tmp_path, model, limit):
    save_model(model, tmp_path / "m", {"n": 1})
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "m"), str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert "the model could not be written" in done.stdout
    assert load_model(tmp_path / "m")[1] == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def edit(change):
    def damage(folder):
        path = folder / "model.json"
        description = json.loads(path.read_text())
        change(description)
        path.write_text(json.dumps(description))

    return damage


def truncate(name):
    def damage(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-20])

    return damage


def rewrite(name, change):
    def damage(folder):
        pq.write_table(change(pq.read_table(folder / name)), folder / name)

    return damage


DAMAGE = {
    "no folder": shutil.rmtree,
    "no model.json": lambda folder: (folder / "model.json").unlink(),
    "no fixed effect": lambda folder: (folder / "fixed.parquet").unlink(),
    "no entities": lambda folder: (folder / "effect-1-entities.parquet").unlink(),
    "half a json": truncate("model.json"),
    "half a fixed effect": truncate("fixed.parquet"),
    "half the entities": truncate("effect-0-entities.parquet"),
    "a list for a description": lambda folder: (folder / "model.json").write_text("[]"),
    "unknown outcome": edit(lambda d: d.update(outcome="gamma")),
    "no noise": edit(lambda d: d.update(noise_variance=None)),
    "no training": edit(lambda d: d.pop("training")),
    "no effects": edit(lambda d: d.update(random=[{}])),
    "other precision": edit(lambda d: d["random"][0].update(precision="diagonal")),
    "another effect's entities": lambda folder: shutil.copy(
        folder / "effect-0-entities.parquet", folder / "effect-1-entities.parquet"
    ),
    "another effect's columns": lambda folder: shutil.copy(
        folder / "effect-1-columns.parquet", folder / "effect-0-columns.parquet"
    ),
    "a column twice": rewrite(
        "effect-0-columns.parquet",
        lambda t: t.set_column(
            t.column_names.index("term"), "term", pa.array(["g0"] * t.num_rows)
        ).set_column(t.column_names.index("name"), "name", pa.array(["genre"] * t.num_rows)),
    ),
    "no shift": rewrite("effect-0-entities.parquet", lambda t: t.drop(["shift"])),
    "numbers for lists": rewrite(
        "effect-0-entities.parquet",
        lambda t: t.set_column(t.column_names.index("shift"), "shift", pa.array(np.ones(t.num_rows))),
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_model_is_a_model_error_that_names_the_folder(tmp_path, how):
    random = (USER, replace(FILM, bags=()))
    save_model(trained(settings=replace(SETTINGS, random=random, sweeps=1))[0], tmp_path / "the-model")
    DAMAGE[how](tmp_path / "the-model")
    with pytest.raises(ModelError, match="the-model"):
        load_model(tmp_path / "the-model")


def test_a_newer_format_asks_for_a_newer_nearline(tmp_path, model):
    save_model(model, tmp_path / "m")
    edit(lambda d: d.update(format_version=2))(tmp_path / "m")
    with pytest.raises(ModelError, match="up to 1, got 2: it needs a newer nearline"):
        load_model(tmp_path / "m")
    edit(lambda d: d.update(format="other"))(tmp_path / "m")
    with pytest.raises(ModelError, match="got 'other': not a model of nearline"):
        load_model(tmp_path / "m")
