"""`nearline generations` and `nearline inspect` on a store: what they show and change, and what they refuse."""

import pytest

from nearline.model.belief import describe
from nearline.store.generations import Status
from nearline.store.records import Records
from nearline.store.seeding import write_entities
from nearline.wiring.stores import find_store, open_store
from simulated import trained


@pytest.fixture(scope="module")
def model():
    return trained()[0]


@pytest.fixture
def deployment(tmp_path, model):
    """A folder with a store in it: generation 1 retired, 2 live with two versions of u1, 3 refused."""
    store = open_store(tmp_path / "store", partitions=2, history=5)
    for created_ms in (1_000, 2_000, 3_000):
        number = store.create(model, created_ms=created_ms, level=2, positions=(4, 6)).number
        store.mark(number, Status.CANDIDATE, metrics={"log_loss": 0.5})
    write_entities(store, 2, model, as_of_ms=1_735_689_600_000, positions=(4, 6))
    store.switch(1)
    store.switch(2)
    store.mark(3, Status.REFUSED)
    partition = int(store.partitions_of("per-user", ["u1"])[0])
    with store.writing(2, partition) as txn:
        before = txn.get_many("per-user", ["u1"])
        later = (before.version + 1, before.position + 5, before.as_of_ms + 1, before.rows + 2)
        txn.put_many("per-user", ["u1"], Records(*later, before.evidence))
    store.close()
    return tmp_path


def test_generations_are_listed_switched_rolled_back_pinned_and_pruned(nearline_json, deployment):
    listed = nearline_json("generations", "list", deployment)
    assert listed["live"] == 2
    assert [row["status"] for row in listed["generations"]] == ["retired", "live", "refused"]
    assert [row["records"] for row in listed["generations"]] == [0, 17, 0]
    assert listed["generations"][1]["positions"] == [4, 6]
    assert listed == nearline_json("generations", "list", deployment / "store") | {"store": str(deployment)}
    assert nearline_json("generations", "switch", deployment, 1)["live"] == 1
    assert nearline_json("generations", "switch", deployment, 3, "--force")["earlier"] == [2, 1]
    assert nearline_json("generations", "rollback", deployment)["live"] == 1
    assert nearline_json("generations", "pin", deployment, 2)["pinned"]
    assert nearline_json("generations", "prune", deployment, "--keep", 0)["deleted"] == [3]
    assert not nearline_json("generations", "pin", deployment, 2, "--off")["pinned"]
    assert nearline_json("generations", "prune", deployment)["deleted"] == []
    assert nearline_json("generations", "prune", deployment, "--keep", 0, "--unfinished")["deleted"] == [2]
    assert [row["number"] for row in nearline_json("generations", "list", deployment)["generations"]] == [1]


def test_what_people_see_says_the_same(nearline, deployment):
    code, out, _ = nearline("generations", "list", deployment)
    assert code == 0
    assert [row.split()[:3] for row in out.splitlines() if "log_loss" in row] == [
        ["1", "retired", "2"],
        ["2", "live", "2"],
        ["3", "refused", "2"],
    ]
    assert "1970-01-01 00:00:02" in out
    assert nearline("generations", "rollback", deployment)[1] == "live: generation 1\n"
    assert nearline("generations", "pin", deployment, 1)[1] == "generation 1: pinned\n"
    assert nearline("generations", "prune", deployment, "--keep", "0")[1] == "deleted: 2, 3\n"


def test_mistakes_with_generations_are_named(nearline, deployment, trained_folder):
    for arguments, message in (
        (("list", trained_folder), "expected a store"),
        (("switch", deployment, 9), "no generation 9: there are [1, 2, 3]"),
        (("switch", deployment, 3), "it is refused"),
        (("pin", deployment, 9), "no generation 9"),
    ):
        code, out, err = nearline("generations", *arguments)
        assert (code, out) == (1, "")
        assert message in err
    nearline("generations", "rollback", deployment)
    assert "nothing to roll back to" in nearline("generations", "rollback", deployment)[2]
    assert find_store(trained_folder) is None


def test_an_entity_of_a_store_is_shown_like_one_of_a_model(nearline_json, deployment, model):
    document = nearline_json("inspect", deployment, "u1", "--history")
    assert document["generation"] == 2
    (effect,) = document["effects"]
    versions = effect.pop("versions")
    expected = describe(model.effect("per-user"), "u1", 20)
    assert effect == expected | {"rows_learned": expected["rows_learned"] + 2}
    assert [row["version"] for row in versions] == [1, 2]
    assert versions[1]["as_of_ms"] == 1_735_689_600_001
    assert versions[1]["rows_learned"] == versions[0]["rows_learned"] + 2
    assert versions[0]["information_nats"] == pytest.approx(expected["information_nats"])
    short = nearline_json("inspect", deployment / "store", "u1", "--effect", "per-user", "--top", "1")
    assert [row["version"] for row in short["effects"][0]["versions"]] == [2]
    assert len(short["effects"][0]["coefficients"]) == 1


def test_people_see_the_history_of_an_entity(nearline, deployment):
    code, out, _ = nearline("inspect", deployment, "u1", "--history")
    assert code == 0
    assert "version 2 as of 2025-01-01 00:00:00" in out
    rows = [line.split() for line in out[out.index("versions kept") :].splitlines()]
    assert [row[0] for row in rows if len(row) == 6 and row[0].isdigit()] == ["1", "2"]
    assert "versions kept" not in nearline("inspect", deployment, "u1")[1]


def test_mistakes_with_an_entity_of_a_store_are_named(nearline, deployment, trained_folder, tmp_path):
    assert "no entity 'nobody' in per-user of generation 2" in nearline("inspect", deployment, "nobody")[2]
    assert (
        "no entity 'u1' in per-user of gen" in nearline("inspect", deployment, "u1", "--generation", "1")[2]
    )
    assert "no generation 7" in nearline("inspect", deployment, "u1", "--generation", "7")[2]
    code, _, err = nearline("inspect", trained_folder / "a.model", "u1", "--history")
    assert code == 2
    assert "expected a store" in err
    empty = open_store(tmp_path / "empty")
    empty.close()
    assert "no generation is live yet" in nearline("inspect", tmp_path / "empty", "u1")[2]
    assert "no generations yet" in nearline("generations", "list", tmp_path / "empty")[1]
