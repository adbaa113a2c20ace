"""`nearline refit CONFIG`: a deployment's next generation out of its row log, and what it refuses."""

import msgspec
import numpy as np
import pytest
from command_line import CONFIG

from nearline.cli.drift import start_refit
from nearline.events.cloudevents import write_event
from nearline.events.impression import Feedback, Impression, Tick
from nearline.store.generations import Status
from nearline.stream.roles import Role
from nearline.wiring.stores import open_store

BEGIN_MS = 1_760_000_000_000
STREAM = '\n[stream]\nfolder = "shop"\npartitions = 2\nwindow = "1m"\ntick_after = "none"\nrefit = "watch"\n'


def events(count, generation=1):
    """Impressions a second apart, each user with a taste of its own, and feedback to those who liked it."""
    rng = np.random.default_rng(0)
    for i in range(count):
        at, user = BEGIN_MS + i * 1_000, int(rng.integers(6))
        x = float(rng.normal())
        shown = Impression(
            f"i{i}", at, {"user": f"n{user}", "film": f"f{i % 5}"}, {"b": {"x": x, "genre=g1": 1.0}}
        )
        yield msgspec.structs.replace(shown, generation=generation)
        if rng.random() < 1.0 / (1.0 + np.exp(-3.0 * (user - 2.5) - x)):
            yield Feedback(f"i{i}", at + 500, 1.0)
    yield Tick(BEGIN_MS + count * 1_000 + 120_000)


@pytest.fixture
def shop(tmp_path, nearline, trained_folder):
    """A deployment with a live generation that has learned 400 impressions."""
    (tmp_path / "c.toml").write_text(CONFIG + STREAM)
    assert nearline("publish", trained_folder / "a.model", tmp_path / "c.toml")[0] == 0
    (tmp_path / "e.jsonl").write_bytes(b"\n".join(map(write_event, events(400))))
    assert nearline("log", "append", tmp_path / "shop", tmp_path / "e.jsonl")[0] == 0
    assert nearline("worker", tmp_path / "c.toml", "--once")[0] == 0
    return tmp_path


@pytest.mark.parametrize("level", [1, 2])
def test_a_refit_switches_the_worker_goes_on_and_a_rollback_is_a_switch_back(nearline_json, shop, level):
    done = nearline_json("refit", shop / "c.toml", "--level", level)
    assert (done["decision"], done["generation"], done["live"]) == ("switched", 2, 2)
    assert done["candidate"]["loss"] < done["served"]["loss"]
    assert done["examples"] < 400 <= done["examples"] + done["caught_up"]
    worked = nearline_json("worker", shop / "c.toml", "--once")
    assert worked["generation"] == 2
    assert (worked["rows"]["learned"], worked["rows"]["waiting"]) == (800, 0)
    listed = nearline_json("generations", "list", shop / "shop")["generations"]
    assert [row["status"] for row in listed] == [Status.RETIRED, Status.LIVE]
    assert listed[1]["level"] == level
    assert listed[1]["metrics"]["loss"] == done["candidate"]["loss"]
    assert nearline_json("generations", "rollback", shop / "shop")["live"] == 1
    assert nearline_json("worker", shop / "c.toml", "--once")["rows"]["learned"] == 800


def test_people_are_told_the_figures(nearline, shop):
    code, out, _ = nearline("refit", shop / "c.toml", "--no-switch", "--margin", "0.01")
    assert code == 0
    assert "generation 2: a candidate: `nearline generations switch` makes it live   examples: " in out
    assert "as served 0.6931, margin 0.01" in out
    assert "2: a candidate" in nearline("refit", shop / "c.toml", "--no-switch")[1].replace("3:", "2:")


def test_what_a_killed_refit_left_is_told(nearline, shop):
    store = open_store(shop / "shop" / "store")
    store.create(store.model(1), created_ms=0)
    store.close()
    code, _, err = nearline("refit", shop / "c.toml")
    assert code == 0
    assert "generation 2 was never finished" in err
    assert nearline("generations", "prune", shop / "shop", "--unfinished")[1] == "deleted: 2\n"


def test_a_refit_that_cannot_be_says_why(nearline, shop, tmp_path):
    code, _, err = nearline("refit", shop / "shop")
    assert code == 2
    assert "expected the configuration that the deployment's workers run with, got a folder" in err
    (tmp_path / "other.toml").write_text(CONFIG + '[stream]\nfolder = "elsewhere"')
    code, _, err = nearline("refit", tmp_path / "other.toml")
    assert code == 1
    assert "no deployment there" in err
    held = Role(shop / "shop" / "roles", "refit")
    code, _, err = nearline("refit", shop / "c.toml")
    held.close()
    assert code == 2
    assert "has the role 'refit' already" in err


def test_a_refit_that_a_worker_starts_is_one_like_any_other(nearline_json, shop):
    assert start_refit(shop / "c.toml").wait(120) == 0
    assert nearline_json("generations", "list", shop / "shop")["live"] == 2
