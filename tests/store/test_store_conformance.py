"""What every store promises: transactions, versions, state, history, changes, generations."""

import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored import assert_same, place, records

from nearline.errors import DataError, ModelError, StaleWriteError
from nearline.posterior.evidence import select_evidence
from nearline.store.generations import Status
from nearline.store.records import Records, no_records, select_records
from nearline.store.seeding import with_records, without_entities, write_entities
from nearline.store.transaction import FEED
from simulated import assert_same_effect, assert_same_model

USER = "per-user"


def names_of(partition: int, count: int, partitions: int, effect: str = USER) -> list[str]:
    """So many entities of one partition."""
    found = (f"e{i}" for i in range(100 * count * partitions))
    return [name for name in found if place(effect, name, partitions) == partition][:count]


@pytest.fixture
def store(new_store):
    return new_store(partitions=2)


@pytest.fixture
def number(store, model):
    return store.create(model, created_ms=5).number


def write(store, number, names, made, *, partition=0, effect=USER):
    with store.writing(number, partition) as txn:
        txn.put_many(effect, names, made)


def test_what_was_written_is_read_in_any_order_with_others_that_nobody_has_seen(store, number):
    names, made = names_of(0, 3, 2), records([2, 0, 5])
    elsewhere, more = names_of(1, 2, 2), records([1, 3], seed=1)
    write(store, number, names, made)
    write(store, number, elsewhere, more, partition=1)
    assert_same(store.get_many(number, USER, names), made)
    asked = [names[2], "nobody", elsewhere[0], names[0], names[0]]
    read = store.get_many(number, USER, asked)
    assert_same(select_records(read, np.array([3, 0])), select_records(made, np.array([0, 2])))
    assert_same(select_records(read, np.array([2])), select_records(more, np.array([0])))
    assert_same(select_records(read, np.array([1])), no_records(1, full=True))
    assert_same(store.get_many(number, "per-film", names), no_records(3, full=True))
    assert store.count(number) == 5
    assert sorted(store.names(number, USER, 0)) == sorted(names)
    assert sorted(store.names(number, USER, 1)) == sorted(elsewhere)
    assert store.names(number, "per-film", 0) == []


def test_nothing_asked_is_nothing_answered(store, number):
    assert_same(store.get_many(number, USER, []), no_records(0, full=True))
    with store.writing(number, 0) as txn:
        txn.put_many(USER, [], no_records(0, full=True))
    assert store.changes(number, 0, 0).commit in {0, 1}


@pytest.mark.parametrize(
    "name", ["", "ü", "a\0b", "x" * 600, "é" * 400, "x" * 599 + "y", " ", "e/../e", "\U0001f600" * 200]
)
def test_any_name_will_do(new_store, model, name):
    store = new_store()
    number = store.create(model, created_ms=5).number
    names = [name, "x" * 500, "x" * 601]
    write(store, number, names, records([1, 2, 3]))
    assert_same(store.get_many(number, USER, names), records([1, 2, 3]))
    assert sorted(store.names(number, USER, 0)) == sorted(names)
    assert store.changes(number, 0, 0).names == {USER: tuple(names)}


def test_a_transaction_sees_what_it_wrote_and_others_do_not_until_it_ends(store, number):
    names, made = names_of(0, 2, 2), records([2, 3])
    with store.writing(number, 0) as txn:
        txn.put_many(USER, names, made)
        txn.put_state(b"a", b"1")
        assert_same(txn.get_many(USER, names), made)
        assert txn.get_state(b"a") == b"1"
        assert_same(store.get_many(number, USER, names), no_records(2, full=True))
        assert store.state(number, 0, b"a") is None
    assert_same(store.get_many(number, USER, names), made)
    assert store.state(number, 0, b"a") == b"1"
    assert store.state(number, 1, b"a") is None


def test_a_block_that_raises_writes_nothing(store, number):
    names = names_of(0, 1, 2)

    class StopHereError(Exception):
        pass

    def write_and_stop():
        with store.writing(number, 0) as txn:
            txn.put_many(USER, names, records([2]))
            txn.put_state(b"a", b"1")
            raise StopHereError

    with pytest.raises(StopHereError):
        write_and_stop()
    assert_same(store.get_many(number, USER, names), no_records(1, full=True))
    assert store.state(number, 0, b"a") is None
    assert store.changes(number, 0, 0).commit == 0


def test_a_stale_write_is_refused_by_version_and_names_the_entities(store, number):
    names = names_of(0, 3, 2)
    write(store, number, names[:2], records([2, 2]))
    for version in (1, 3):
        with pytest.raises(
            StaleWriteError, match=f"expected version 2 of '{names[0]}', got {version}"
        ) as refused:
            write(store, number, names[:2], records([2, 2], version=version))
        assert refused.value.names == tuple(names[:2])
    mixed = records([1, 1])
    mixed.version[:] = [2, 2]
    with pytest.raises(StaleWriteError, match="1 of 2 records") as refused:
        write(store, number, [names[0], names[2]], mixed)
    assert refused.value.names == (names[2],)
    assert_same(store.get_many(number, USER, names[:2]), records([2, 2]))
    assert store.get_many(number, USER, names).version.tolist() == [1, 1, 0]
    write(store, number, names[:2], records([4, 1], version=2))
    assert store.get_many(number, USER, names).version.tolist() == [2, 2, 0]


def test_versions_go_on_inside_a_transaction(store, number):
    names = names_of(0, 1, 2)
    with store.writing(number, 0) as txn:
        txn.put_many(USER, names, records([1]))
        txn.put_many(USER, names, records([2], version=2))
        with pytest.raises(StaleWriteError):
            txn.put_many(USER, names, records([2], version=2))
        assert_same(txn.get_many(USER, names), records([2], version=2))
    assert_same(store.get_many(number, USER, names), records([2], version=2))


def test_of_two_transactions_at_once_the_second_to_end_is_refused_whatever_it_wrote(store, number):
    names = names_of(0, 2, 2)

    def cross(first, second):
        with store.writing(number, 0) as late:
            late.get_state(b"position")
            with store.writing(number, 0) as early:
                first(early)
            second(late)

    with pytest.raises(StaleWriteError, match="someone else has written to this partition") as refused:
        cross(
            lambda txn: txn.put_state(b"position", b"10"),
            lambda txn: txn.put_state(b"position", b"9"),
        )
    assert refused.value.names == ()
    with pytest.raises(StaleWriteError):
        cross(
            lambda txn: txn.put_many(USER, names[:1], records([1])),
            lambda txn: txn.put_many(USER, names[1:], records([1])),
        )
    assert store.state(number, 0, b"position") == b"10"
    assert store.get_many(number, USER, names).version.tolist() == [1, 0]
    cross(lambda txn: None, lambda txn: txn.put_state(b"position", b"11"))
    assert store.state(number, 0, b"position") == b"11"


def test_partitions_do_not_meet(store, number):
    with store.writing(number, 0) as one, store.writing(number, 1) as other:
        one.put_state(b"position", b"1")
        other.put_state(b"position", b"2")
    assert [store.state(number, p, b"position") for p in (0, 1)] == [b"1", b"2"]
    for partition in (-1, 2):
        with pytest.raises(ModelError, match=f"expected 0 to 1, got {partition}"):
            store.state(number, partition, b"position")
    name = names_of(1, 1, 2)
    with pytest.raises(ModelError, match="belongs to partition 1, not 0"):
        write(store, number, name, records([1]))


def test_wrong_writes_are_refused_with_a_reason(store, number):
    names = names_of(0, 2, 2)
    with pytest.raises(ModelError, match="each entity once"):
        write(store, number, [names[0], names[0]], records([1, 1]))
    with pytest.raises(ModelError, match="full or diagonal"):
        write(store, number, names, records([1, 1], full=False))
    with pytest.raises(ModelError, match="no random effect 'per-car'"):
        write(store, number, names, records([1, 1]), effect="per-car")
    with pytest.raises(ModelError, match="no random effect 'per-car'"):
        store.get_many(number, "per-car", names)
    with pytest.raises(DataError, match="a record for each of 1 names, got 2"):
        write(store, number, names[:1], records([1, 1]))
    with pytest.raises(ModelError, match="no generation 9"):
        store.get_many(9, USER, names)
    with pytest.raises(ModelError, match="no generation 9"), store.writing(9, 0):
        pass
    broken = records([1, 1])
    broken.evidence.mean[1] = np.nan
    with pytest.raises(ModelError, match="finite"):
        write(store, number, names, broken)
    assert store.count(number) == 0


def test_state_is_kept_by_key_in_order_and_dropped(store, number):
    with store.writing(number, 0) as txn:
        for key in (b"w/2", b"w/1", b"x", b"w"):
            txn.put_state(key, key * 2)
    with store.writing(number, 0) as txn:
        txn.put_state(b"w/1", None)
        txn.put_state(b"w/3", b"")
        txn.put_state(b"none", None)
        assert txn.get_state(b"w/1") is None
        expected = [(b"w", b"ww"), (b"w/2", b"w/2w/2"), (b"w/3", b""), (b"x", b"xx")]
        assert txn.states() == expected
        assert txn.states(b"w/") == expected[1:3]
        assert store.states(number, 0, b"w/1") == [(b"w/1", b"w/1w/1")]
    assert store.states(number, 0) == expected
    assert store.states(number, 0, b"w/") == expected[1:3]
    with store.writing(number, 0) as txn:
        assert txn.states() == expected
        for key in (b"", b"k" * 501):
            with pytest.raises(DataError, match="1 to 500 bytes"):
                txn.put_state(key, b"")
        txn.put_state(b"\xff" * 500, b"v" * 100_000)
        assert txn.states(b"\xff") == [(b"\xff" * 500, b"v" * 100_000)]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.none() | st.binary(max_size=3), max_size=3), max_size=6
    )
)
def test_state_is_a_dictionary(new_store, model, commits):
    store, plain = new_store(), {}
    number = store.create(model, created_ms=5).number
    for commit in commits:
        with store.writing(number, 0) as txn:
            for key, value in commit.items():
                txn.put_state(key.encode(), value)
                plain[key.encode()] = value
    with store.writing(number, 0) as txn:
        assert txn.states() == sorted((key, value) for key, value in plain.items() if value is not None)


@pytest.mark.parametrize("history", [0, 2])
def test_as_many_versions_are_kept_as_asked_for(new_store, model, history):
    store = new_store(history=history)
    number = store.create(model, created_ms=5).number
    assert len(store.history(number, USER, "a")) == 0
    for version in range(1, 6):
        write(store, number, ["a", "ab"], records([version, 1], version=version))
    kept = store.history(number, USER, "a")
    assert kept.version.tolist() == list(range(5 - history, 6))
    assert np.diff(kept.evidence.start).tolist() == list(range(5 - history, 6))
    assert store.get_many(number, USER, ["a"]).version.tolist() == [5]
    assert sorted(store.names(number, USER, 0)) == ["a", "ab"]
    assert store.count(number) == 2


def test_changes_are_what_was_written_since_a_commit(store, number):
    names, films = names_of(0, 3, 2), names_of(0, 1, 2, "per-film")
    write(store, number, names[:2], records([1, 1]))
    write(store, number, names[1:2], records([1], version=2))
    with store.writing(number, 0) as txn:
        txn.put_many(USER, names[2:], records([1]))
        txn.put_many("per-film", films, records([1]))
    everything = store.changes(number, 0, 0)
    assert everything.commit == 3
    assert everything.names == {USER: (names[0], names[1], names[2]), "per-film": tuple(films)}
    assert store.changes(number, 0, 1).names == {USER: (names[1], names[2]), "per-film": tuple(films)}
    assert store.changes(number, 0, 3).names == {}
    assert store.changes(number, 0, 4).names is None
    assert store.changes(number, 1, 0).commit == 0


def test_the_feed_of_changes_ends_somewhere_and_says_so(new_store, model):
    store = new_store()
    number = store.create(model, created_ms=5).number
    for version in range(1, FEED + 3):
        write(store, number, ["a"], records([1], version=version))
    assert store.changes(number, 0, 1).names is None
    assert store.changes(number, 0, 2).names == {USER: ("a",)}
    assert store.changes(number, 0, 1).commit == FEED + 2


def test_float32_is_of_the_whole_generation(store, model):
    number = store.create(model, created_ms=5, single=True).number
    made = records([4])
    names = names_of(0, 1, 2)
    write(store, number, names, made)
    read = store.get_many(number, USER, names)
    rounded = made.evidence.precision.astype(np.float32).astype(np.float64)
    np.testing.assert_array_equal(read.evidence.precision, rounded)


def test_a_model_comes_back_without_entities_and_its_entities_as_records(store, number, model):
    assert_same_model(store.model(number), without_entities(model))
    write_entities(store, number, model, as_of_ms=77, positions=(10, 20), at_once=3)
    for effect in model.random:
        names = effect.names.to_pylist()
        read = store.get_many(number, effect.name, names)
        assert_same_effect(with_records(store.model(number).effect(effect.name), names, read), effect)
        assert set(read.as_of_ms.tolist()) == {77}
        assert set(read.version.tolist()) == {1}
        placed = [(10, 20)[place(effect.name, name, 2)] for name in names]
        assert read.position.tolist() == placed
    with pytest.raises(StaleWriteError):
        write_entities(store, number, model, as_of_ms=77)
    with pytest.raises(ModelError, match="one for each of 2 partitions, got 1"):
        write_entities(store, number, model, as_of_ms=77, positions=(1,))


def test_generations_are_switched_rolled_back_and_pruned_with_what_they_hold(store, model):
    one, two, three = (store.create(model, created_ms=i, level=2, positions=(i, i)).number for i in (1, 2, 3))
    assert (one, two, three) == (1, 2, 3)
    assert store.live() is None
    with pytest.raises(ModelError, match="no generation is live"):
        store.generations().serving()
    for number in (one, two, three):
        store.mark(number, Status.CANDIDATE, positions=(number, 7), metrics={"log_loss": 0.5})
        write(store, number, names_of(0, 1, 2), records([number]))
    assert store.switch(one).status is Status.LIVE
    assert store.switch(two).number == store.live() == two
    assert store.generations().find(one).status is Status.RETIRED
    assert store.generations().find(two).positions == (two, 7)
    assert store.generations().find(two).metrics == {"log_loss": 0.5}
    store.mark(three, Status.REFUSED)
    with pytest.raises(ModelError, match="it is refused"):
        store.switch(three)
    assert store.switch(three, force=True).status is Status.LIVE
    assert store.rollback().number == store.live() == two
    assert store.pin(one).pinned
    assert store.prune(0) == (three,)
    for gone in (
        lambda: store.get_many(three, USER, ["a"]),
        lambda: store.model(three),
        lambda: store.switch(three),
    ):
        with pytest.raises(ModelError, match="no generation 3"):
            gone()
    assert store.get_many(two, USER, names_of(0, 1, 2)).evidence.start.tolist() == [0, 2]
    assert not store.pin(one, pinned=False).pinned
    assert store.prune(1) == ()
    assert store.prune(0) == (one,)
    assert store.create(model, created_ms=9).number == 4
    assert store.prune(0) == ()
    assert store.prune(0, unfinished=True) == (4,)
    assert [generation.number for generation in store.generations().known] == [two]


def test_two_writers_in_threads_lose_nothing(store, number):
    """Each adds one to a counter and to a record, again and again; the one that is refused tries anew."""
    name = names_of(0, 1, 2)

    def add():
        done = 0
        while done < 20:
            try:
                with store.writing(number, 0) as txn:
                    counter = int(txn.get_state(b"counter") or b"0")
                    before = txn.get_many(USER, name)
                    after = Records(
                        before.version + 1, before.position, before.as_of_ms, before.rows, before.evidence
                    )
                    txn.put_many(USER, name, after)
                    txn.put_state(b"counter", str(counter + 1).encode())
                done += 1
            except StaleWriteError:
                continue

    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.state(number, 0, b"counter") == b"40"
    assert store.get_many(number, USER, name).version.tolist() == [40]
    assert store.changes(number, 0, 0).commit == 40


def test_what_is_read_can_be_written_on(store, number, model):
    effect = model.random[0]
    assert effect.name == USER
    names = [name for name in effect.names.to_pylist() if place(USER, name, 2) == 0]
    place_of = {name: i for i, name in enumerate(effect.names.to_pylist())}
    index = np.array([place_of[name] for name in names])
    ones = np.ones(len(names), dtype=np.int64)
    write(store, number, names, Records(ones, ones, ones, ones, select_evidence(effect.evidence, index)))
    read = store.get_many(number, USER, names)
    write(
        store,
        number,
        names,
        Records(read.version + 1, read.position, read.as_of_ms, read.rows, read.evidence),
    )
    assert set(store.get_many(number, USER, names).version.tolist()) == {2}
