"""The loaders of public data sets: on files made here, and, where they are, on the real ones."""

import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from nearline import datasets
from nearline.batch.tables import examples_from_table
from nearline.errors import DataError

# Rows, and the mean response, of the real files.
EXPECTED = {
    "movielens100k": (100_000, 0.55375),
    "movietweetings": (141_695, 0.500),
    "movietweetings_100k": (100_000, None),
    "talkingdata": (100_000, 0.00227),
    "hotel_bookings": (119_390, 0.370),
    "tennis_wta": (472_273, 0.500),
    "assistments": (325_637, None),
    "elec2": (45_312, None),
    "lambda_learner_u359": (1_146, None),
    "lambda_learner_u359_test": (154, None),
    "ml1m_partial": (1_000_209, None),
    "open_bandit/random": (10_000, 0.0046),
    "open_bandit/bts": (10_000, 0.0069),
    "glmm_ref/dyestuff": (30, 1527.5),
    "glmm_ref/dyestuff2": (30, 5.6656),
    "glmm_ref/pastes": (60, 60.05333),
    "glmm_ref/penicillin": (144, 22.97222),
    "glmm_ref/sleepstudy": (180, None),
    "glmm_ref/cbpp": (56, None),
    "glmm_ref/contraception": (1_934, None),
    "glmm_ref/s3bbx": (2_449, None),
    "a9a": (32_561, None),
    "a9a_test": (16_281, None),
    "heart": (250, None),
    "heart_test": (20, None),
    "mg": (1_385, None),
}


def examples_of(dataset):
    labelled = dataset.name != "ml1m_partial"
    return examples_from_table(dataset.table, dataset.mapping, source=dataset.name, labelled=labelled)


@pytest.mark.data
@pytest.mark.parametrize("name", datasets.names())
def test_every_data_set_has_the_rows_it_should_and_its_mapping_fits(name, data_directory):
    dataset = datasets.load(name, data_directory)
    rows, mean = EXPECTED[name]
    examples = examples_of(dataset)
    assert dataset.name == name
    assert len(examples) == rows
    assert mean is None or np.mean(examples.response) == pytest.approx(mean, abs=6e-4)
    if examples.time_ms is not None and not name.startswith("lambda"):
        assert np.all(np.diff(examples.time_ms) >= 0)


@pytest.mark.data
def test_movielens_has_the_people_films_and_features_it_is_known_for(data_directory):
    dataset = datasets.load("movielens100k", data_directory)
    examples = examples_of(dataset)
    assert {kind: len(column.names) for kind, column in examples.entities.items()} == {
        "user": 943,
        "film": 1682,
    }
    assert len(pc.unique(pc.list_flatten(dataset.table["genres"]))) == 19
    assert len(pc.unique(dataset.table["occupation"])) == 21
    order = dataset.table.select(["time", "user_id", "film_id"]).to_pylist()
    keys = [tuple(row.values()) for row in order]
    assert keys == sorted(keys)


@pytest.mark.data
def test_movielens_is_ready_in_well_under_a_second(data_directory):
    examples_of(datasets.load("movielens100k", data_directory))
    start = time.process_time()
    examples_of(datasets.load("movielens100k", data_directory))
    assert time.process_time() - start < 1.0


@pytest.mark.data
def test_the_shared_model_of_lambda_learner_scores_as_published(data_directory):
    examples = examples_of(datasets.load("lambda_learner_u359_test", data_directory))
    assert np.sqrt(np.mean((examples.response - examples.offset) ** 2)) == pytest.approx(0.70536, abs=1e-5)


@pytest.mark.data
def test_hotel_bookings_are_labelled_after_they_are_made(data_directory):
    table = datasets.load("hotel_bookings", data_directory).table
    delay = (table["label_known_at"].to_numpy() - table["shown_at"].to_numpy()).astype(int)
    assert np.median(delay) == 39
    assert (delay.min(), delay.max()) == (0, 737)
    parked = table.filter(pc.greater(table["required_car_parking_spaces"], 0))
    assert pc.sum(parked["is_canceled"]).as_py() == 0
    late = {"reservation_status", "assigned_room_type", "booking_changes", "deposit_type", "adr"}
    assert not late & set(table.column_names)


@pytest.mark.data
def test_open_bandit_has_the_propensities_of_what_was_shown(data_directory):
    random, bts = (datasets.load(f"open_bandit/{name}", data_directory).table for name in ("random", "bts"))
    np.testing.assert_allclose(random["propensity"].to_numpy(), 1.0 / 34.0)
    propensity = bts["propensity"].to_numpy()
    assert (propensity.min(), propensity.max()) == (0.000165, 0.72529)
    assert {name: len(pc.unique(bts[name])) for name in ("item_id", "position")} == {
        "item_id": 34,
        "position": 3,
    }
    assert len(pc.unique(bts["item_feature_0"])) <= 34


@pytest.mark.data
def test_tennis_differences_change_sign_with_the_players(data_directory):
    table = datasets.load("tennis_wta", data_directory).table
    favourite = table["log_rank_difference"].to_numpy() > 0
    won = table["player_1_won"].to_numpy()
    known = np.isfinite(table["log_rank_difference"].to_numpy())
    assert np.mean((favourite == won)[known]) > 0.6
    assert abs(np.mean(favourite[known]) - 0.5) < 0.01


@pytest.mark.data
def test_earlier_answers_are_counted_on_the_same_skill(data_directory):
    table = datasets.load("assistments", data_directory).table.slice(0, 3_000)
    seen = {}
    for row in table.to_pylist():
        attempts, right = seen.get((row["student"], row["skill"]), (0, 0))
        assert row["log_attempts"] == pytest.approx(np.log1p(attempts))
        assert row["log_right"] == pytest.approx(np.log1p(right))
        assert row["log_wrong"] == pytest.approx(np.log1p(attempts - right))
        seen[row["student"], row["skill"]] = attempts + 1, right + row["correct"]


def test_files_may_be_plain_or_compressed(tmp_path):
    folder = tmp_path / "elec2"
    folder.mkdir()
    content = b"period,nswprice,nswdemand,vicprice,vicdemand,transfer,class\n0.5,0,0,0,0,0,1\n"
    (folder / "elec.csv.zst").write_bytes(pa.compress(content, codec="zstd", asbytes=True))
    compressed = datasets.load("elec2", tmp_path).table
    (folder / "elec.csv").write_bytes(content)
    assert datasets.load("elec2", tmp_path).table.equals(compressed)


def test_latin_letters_and_films_without_a_year_are_read(tmp_path):
    folder = tmp_path / "ml100k"
    folder.mkdir()
    (folder / "u.genre").write_text("unknown|0\nDrama|1\n")
    (folder / "u.item").write_bytes("1|Télé|01-Jan-1980||url|0|1\n2|b|||url|0|0\n".encode("latin1"))
    (folder / "u.user").write_text("9|50|F|artist|A0123\n")
    (folder / "u.data").write_text("9\t2\t4\t100\n9\t1\t3\t100\n")
    assert datasets.load("movielens100k", tmp_path).table.to_pylist() == [
        {"user_id": 9, "film_id": 1, "rating": 3, "time": 100, "genres": ["Drama"], "year": -1.0}
        | {"age": 0.5, "gender": "F", "occupation": "artist"},
        {"user_id": 9, "film_id": 2, "rating": 4, "time": 100, "genres": [], "year": None}
        | {"age": 0.5, "gender": "F", "occupation": "artist"},
    ]


def test_a_rating_of_an_unlisted_film_is_refused(tmp_path):
    folder = tmp_path / "movietweetings"
    folder.mkdir()
    (folder / "ratings_20131106.dat").write_text("1::007::8::100\n")
    (folder / "movies_20131106.dat").write_text("008::Film (2001)::Drama\n")
    with pytest.raises(DataError, match="'007' is referred to but not listed"):
        datasets.load("movietweetings", tmp_path)


def test_a_students_three_lines_must_agree(tmp_path):
    folder = tmp_path / "assistments"
    folder.mkdir()
    for part in ("train", "test"):
        (folder / f"assist2009_updated_{part}.csv").write_text("2\n1,1\n0,1\n3\n1,1\n1,1\n")
    with pytest.raises(DataError, match="line 4: expected 3 of each, found 2 skills and 2 answers"):
        datasets.load("assistments", tmp_path)


def test_what_is_missing_is_named_with_what_was_looked_for(tmp_path):
    with pytest.raises(DataError, match=r"elec2: no such file .*elec\.csv, .*elec\.csv\.zst"):
        datasets.load("elec2", tmp_path)
    with pytest.raises(DataError, match="expected the directory of the public data sets, found none"):
        datasets.load("elec2", tmp_path / "nowhere")
    with pytest.raises(DataError, match="no data set 'movielens'; there are movielens100k"):
        datasets.load("movielens", tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "elec2").mkdir()
    (tmp_path / "elec2" / "elec.csv.zst").write_bytes(b"not compressed")
    with pytest.raises(DataError, match=r"elec\.csv\.zst: cannot be read"):
        datasets.load("elec2", tmp_path)


def test_a_file_with_other_columns_is_refused(tmp_path):
    (tmp_path / "ml100k").mkdir()
    (tmp_path / "ml100k" / "u.data").write_text("1,2,3\n")
    with pytest.raises(DataError, match=r"movielens100k: a file in .* is not as it was published"):
        datasets.load("movielens100k", tmp_path)
