"""`nearline replay`: a table, a document and a page; and what it says of mistakes."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from command_line import write

from nearline.events.embedded import EmbeddedLog
from nearline.events.impression import Feedback, Impression
from nearline.events.wire import encode_events
from simulated import table

CONFIG = """
[data]
path = "rows.parquet"
response = "y"
time = "time"
entities = { user = "user" }
bags = { b = ["x", "genre"] }

[fixed_effect]
bags = ["b"]

[random_effects.per-user]
entity = "user"
forgetting = "2h"

[evaluation]
resamples = 20

[replay]
refit_every = "1/5"
ideal_every = "1/5"
sensitivity = false
"""


@pytest.fixture
def folder(tmp_path):
    rows = 80
    write(
        tmp_path / "rows.parquet",
        table(rows, time=np.arange(rows) * 60_000, known=np.arange(rows) * 60_000 + 5),
    )
    (tmp_path / "c.toml").write_text(CONFIG)
    return tmp_path


def test_a_replay_shows_every_level_and_writes_its_page(folder, nearline):
    code, out, _ = nearline("replay", folder / "c.toml", "--out", folder / "r.html")
    assert code == 0
    lines = [line.strip() for line in out.splitlines()]
    for level in ("level 0", "level 1", "level 2", "window", "level 3", "level 3 + refits", "ideal"):
        assert any(line.startswith(level) for line in lines)
    assert "per-user 2" in out
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_document_says_how_every_level_fared(folder, nearline_json):
    found = nearline_json("replay", folder / "c.toml", "--out", folder / "r.html")
    assert (found["rows"], found["judged"]) == (80, 40)
    assert found["levels"]["level 3"]["above_level_3"]["log_loss"][0] == 0.0
    assert found["forgetting_days"] == {"per-user": pytest.approx(1 / 12)}
    assert {each["group"] for each in found["gain_by_size"]} == {"new", "1-5", "6-50", "more than 50"}
    json.dumps(found, allow_nan=False)


def test_labels_known_later_are_learned_later(folder, nearline_json):
    (folder / "d.toml").write_text(CONFIG + 'known = "known"\nlevels = ["level 3"]\n')
    assert nearline_json("replay", folder / "d.toml", "--out", folder / "r.html")["judged"] == 40


def logged(folder, rows):
    """The rows as events: each shown at its time and answered when its label is known."""
    shown = [
        Impression(
            f"i{n}", row["time"], {"user": row["user"]}, {"b": {"x": row["x"], f"genre={row['genre']}": 1.0}}
        )
        for n, row in enumerate(rows)
    ]
    answers = [Feedback(f"i{n}", row["known"], float(row["y"])) for n, row in enumerate(rows)]
    with EmbeddedLog(folder / "log") as log:
        log.append(encode_events(sorted([*shown, *answers], key=lambda event: event.time_ms)))


STREAM = """
[stream]
folder = "s"
window = "1h"
learn_at = "feedback"
without_feedback = "skip"
"""


@pytest.mark.filterwarnings("ignore::nearline.stream.join_settings.EarlyLabelsWarning")
def test_the_same_rows_replay_alike_out_of_a_log_of_events(folder, nearline_json):
    (folder / "d.toml").write_text(CONFIG + 'known = "known"\n' + STREAM)
    logged(folder / "s", pq.read_table(folder / "rows.parquet").to_pylist())
    of_table = nearline_json("replay", folder / "d.toml", "--out", folder / "r.html")
    of_log = nearline_json("replay", folder / "d.toml", "--out", folder / "r.html", "--log", folder / "s")
    assert of_log["rows"] == of_table["rows"] == 80
    for level, found in of_table["levels"].items():
        assert of_log["levels"][level]["metrics"] == pytest.approx(found["metrics"], rel=1e-6)


def test_what_has_no_label_yet_is_said(folder, nearline):
    (folder / "d.toml").write_text(CONFIG + STREAM)
    logged(folder / "s", pq.read_table(folder / "rows.parquet").to_pylist())
    with EmbeddedLog(folder / "s" / "log") as log:
        log.append(
            encode_events([Impression("last", 80 * 60_000, {"user": "u1"}), Feedback("nobody", 1, 1.0)])
        )
    code, _, err = nearline("replay", folder / "d.toml", "--out", folder / "r.html", "--log", folder / "s")
    assert code == 0
    said = " ".join(err.split())
    assert "1 event set aside: without a label when the log ended" in said
    assert "1 event set aside: unreadable, or feedback without its impression" in said


def test_a_folder_without_a_log_is_named(folder, nearline):
    code, _, err = nearline("replay", folder / "c.toml", "--log", folder / "s")
    assert code == 1
    assert "no event log there" in err


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('time = "time"', "", "data.time: expected the column"),
        ('refit_every = "1/5"', 'refit_every = "often"', "replay.refit_every: expected a part of the stream"),
        ('refit_every = "1/5"', "train_share = 1.0", "replay.train_share"),
        ('refit_every = "1/5"', 'levels = ["level 4"]', "replay.levels: expected some of level 0"),
        ('forgetting = "2h"', 'forgetting = "soon"', "per-user.forgetting: expected 'none', 'choose', or"),
        ('refit_every = "1/5"', 'known = "never"', "never"),
        ('time = "time"', 'time = "weight"', "time"),
    ],
)
def test_mistakes_are_named(old, new, message, folder, nearline):
    (folder / "c.toml").write_text(CONFIG.replace(old, new))
    code, out, err = nearline("replay", folder / "c.toml", "--out", folder / "r.html")
    assert code in {1, 2}
    assert out == ""
    assert err.startswith("error: ")
    assert message in err


def test_labels_known_before_their_rows_are_refused(folder, nearline):
    rows = table(80, time=np.arange(80) * 60_000, known=np.arange(80) * 60_000 - 1)
    write(folder / "rows.parquet", rows)
    (folder / "c.toml").write_text(CONFIG + 'known = "known"\n')
    code, _, err = nearline("replay", folder / "c.toml", "--out", folder / "r.html")
    assert code == 1
    assert "known before it is served" in err
