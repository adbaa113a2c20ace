"""The store in a folder: several processes, killed writers, full disks, forks, growth."""

import os
import random
import resource
import shutil
import signal
import threading

import lmdb
import pytest
from stored import place, records
from writers import (
    NAMES,
    SPAWN,
    USER,
    die_between,
    die_inside,
    of_version,
    opened,
    read_on,
    read_once,
    version_seen,
    write_on,
    write_version,
)

from nearline.errors import ModelError
from nearline.store.embedded import is_store
from nearline.store.generations import Status


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def number(folder, model):
    """A live generation with version 1 of every record."""
    store = opened(folder)
    number = store.create(model, created_ms=5).number
    write_version(store, number, 1)
    store.switch(number, force=True)
    store.close()
    return number


def started(target, *arguments):
    process = SPAWN.Process(target=target, args=arguments)
    process.start()
    return process


def joined(process, code=0):
    process.join(timeout=120)
    assert process.exitcode == code


def state_of(store, number):
    return int(store.state(number, 0, b"position"))


def test_what_was_written_is_there_when_the_store_is_opened_again(folder, number):
    store = opened(folder, history=1)
    assert is_store(folder)
    assert not is_store(folder / "generations")
    assert (version_seen(store, number), store.live(), store.count(number)) == (1, number, len(NAMES))
    write_version(store, number, 2)
    store.close()
    again = opened(folder)
    assert again.history(number, USER, NAMES[3]).version.tolist() == [1, 2]
    again.close()


def test_readers_in_another_process_see_whole_commits_while_a_writer_commits(folder, number, model):
    mine, theirs = SPAWN.Pipe()
    reader = started(read_on, folder, 40, theirs)
    assert mine.poll(60)
    mine.recv()
    store = opened(folder)
    for version in range(2, 31):
        write_version(store, number, version)
    new = store.create(model, created_ms=6).number
    for version in range(1, 31):
        write_version(store, new, version)
    store.mark(new, Status.CANDIDATE)
    store.switch(new)
    for version in range(31, 41):
        write_version(store, new, version)
    joined(reader)
    assert mine.recv() >= 2
    store.close()


def test_a_writer_killed_at_any_instant_leaves_a_whole_version_and_loses_none_it_had_committed(
    folder, number
):
    rng, committed = random.Random(4), 1  # noqa: S311
    store = opened(folder)
    for _ in range(4):
        mine, theirs = SPAWN.Pipe(duplex=False)
        writer = started(write_on, folder, number, 10**6, theirs)
        until = committed + rng.randint(1, 12)
        while committed < until:
            assert mine.poll(60)
            committed = mine.recv()
        os.kill(writer.pid, signal.SIGKILL)
        joined(writer, -signal.SIGKILL)
        while mine.poll():
            committed = mine.recv()
        seen = version_seen(store, number)
        assert seen == state_of(store, number) in {committed, committed + 1}
        assert store.changes(number, 0, seen).commit == seen
        committed = seen
    write_version(store, number, committed + 1)
    store.close()


def test_a_writer_killed_inside_its_transaction_leaves_the_old_state(folder, number):
    joined(started(die_inside, folder, number), -signal.SIGKILL)
    store = opened(folder)
    assert version_seen(store, number) == state_of(store, number) == 1
    write_version(store, number, 2)
    assert version_seen(store, number) == state_of(store, number) == 2
    store.close()


def test_had_records_and_position_two_transactions_a_kill_between_them_would_be_seen(folder, number):
    joined(started(die_between, folder, number), -signal.SIGKILL)
    store = opened(folder)
    assert (version_seen(store, number), state_of(store, number)) == (2, 1)
    store.close()


def test_the_map_grows_and_other_processes_follow(folder, model):
    store = opened(folder, map_bytes=1 << 18)
    number = store.create(model, created_ms=5).number
    write_version(store, number, 1)
    (here, theirs), (there, told) = SPAWN.Pipe(duplex=False), SPAWN.Pipe(duplex=False)
    reader = started(read_once, folder, number, there, theirs)
    assert here.poll(60)
    assert here.recv() == 1
    for version in range(2, 5):
        write_version(store, number, version)
    more = [f"more{i}" for i in range(1500)]
    with store.writing(number, 0) as txn:
        txn.put_many(USER, more, of_version(1, more))
    assert (folder / "000001" / "0000" / "data.mdb").stat().st_size > 1 << 19
    told.send("again")
    joined(reader)
    assert here.recv() == 4
    assert version_seen(store, number, more) == 1
    store.close()


def test_threads_read_while_the_map_grows(folder, model):
    store = opened(folder, map_bytes=1 << 17)
    number = store.create(model, created_ms=5).number
    write_version(store, number, 1)
    seen, stop = ([], []), threading.Event()

    def read(versions):
        while not stop.is_set():
            versions.append(version_seen(store, number))

    threads = [threading.Thread(target=read, args=(versions,)) for versions in seen]
    for thread in threads:
        thread.start()
    try:
        for version in range(2, 15):
            write_version(store, number, version)
            more = [f"more{version}-{i}" for i in range(150)]
            with store.writing(number, 0) as txn:
                txn.put_many(USER, more, of_version(1, more))
                txn.put_state(b"position", str(version).encode())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(versions and versions == sorted(versions) for versions in seen)
    assert version_seen(store, number) == 14
    store.close()


def fill_the_disk(folder, number):
    """Write more than the file may grow to, and go on reading what was there."""
    store = opened(folder)
    size = (folder / "000001" / "0000" / "data.mdb").stat().st_size
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200_000, resource.RLIM_INFINITY))
    more = [f"more{i}" for i in range(5_000)]
    try:
        with store.writing(number, 0) as txn:
            txn.put_many(USER, more, of_version(1, more))
    except ModelError as error:
        assert "0000: " in str(error)  # noqa: PT017
        assert version_seen(store, number) == 1
    else:
        raise AssertionError("the disk was not full")


def test_a_full_disk_is_an_error_that_names_the_folder_and_what_was_there_stays(folder, number):
    joined(started(fill_the_disk, folder, number))
    store = opened(folder)
    assert version_seen(store, number) == state_of(store, number) == 1
    write_version(store, number, 2)
    store.close()


def test_a_store_is_not_carried_across_a_fork(folder, number):
    store = opened(folder)
    version_seen(store, number)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            store.get_many(number, USER, NAMES)
        except ModelError as error:
            code = 0 if "after the fork" in str(error) else 2
        finally:
            store.close()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert version_seen(store, number) == 1
    store.close()


def test_mistakes_are_named(folder, number, model, tmp_path):
    store = opened(folder)
    with pytest.raises(ModelError, match="already open in this process"):
        opened(folder)
    store.close()
    with pytest.raises(ModelError, match="expected a store of 3 partitions, it has 1"):
        opened(folder, partitions=3)
    with pytest.raises(ModelError, match="partitions: expected 1 or more, got 0"):
        opened(folder, partitions=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="file"):
        opened(tmp_path / "file")
    opened(folder, partitions=1).close()


def test_a_damaged_record_is_an_error_and_not_a_belief(folder, number):
    with lmdb.open(str(folder / "000001" / "0000"), max_dbs=8) as environment:
        database = environment.open_db(b"records")
        with environment.begin(write=True) as txn:
            key = f"{USER}\0{NAMES[7]}".encode()
            value = bytearray(txn.get(key, db=database))
            value[100] ^= 1
            txn.put(key, bytes(value), db=database)
    store = opened(folder)
    with pytest.raises(ModelError, match=f"'{NAMES[7]}'.* checksum"):
        store.get_many(number, USER, NAMES)
    assert version_seen(store, number, NAMES[:7]) == 1
    store.close()


def test_a_damaged_catalogue_is_an_error(folder, number):
    with lmdb.open(str(folder / "generations"), max_dbs=1) as environment:
        database = environment.open_db(b"catalogue")
        with environment.begin(write=True) as txn:
            txn.put(b"generations", b"{]", db=database)
    store = opened(folder)
    with pytest.raises(ModelError, match="list of generations is damaged"):
        store.generations()
    store.close()


def test_pruning_removes_folders_also_those_a_killed_process_left(folder, number, model):
    store = opened(folder)
    two = store.create(model, created_ms=6).number
    write_version(store, two, 1)
    store.switch(two, force=True)
    assert store.prune(0) == (number,)
    assert sorted(path.name for path in folder.iterdir()) == ["000002", "generations"]
    shutil.copytree(folder / "000002" / "model", folder / "000001" / "model")
    assert store.prune(0) == ()
    assert sorted(path.name for path in folder.iterdir()) == ["000002", "generations"]
    assert version_seen(store, two) == 1
    store.close()


def test_a_generation_pruned_by_another_process_is_gone_here_too(folder, number, model):
    store = opened(folder)
    assert version_seen(store, number) == 1
    two = store.create(model, created_ms=6).number
    joined(started(switch_and_prune, folder, two))
    with pytest.raises(ModelError, match="no generation 1"):
        version_seen(store, number)
    with pytest.raises(ModelError, match="no generation 1"), store.writing(number, 0):
        pass
    assert store.live() == two
    assert store.get_many(two, USER, ["a"]).version.tolist() == [0]
    store.close()


def switch_and_prune(folder, number):
    store = opened(folder)
    store.switch(number, force=True)
    store.prune(0)
    store.close()


def test_two_partitions_are_two_environments(folder, model):
    store = opened(folder, partitions=2)
    number = store.create(model, created_ms=5).number
    names = [[name for name in NAMES if place(USER, name, 2) == p] for p in (0, 1)]
    with store.writing(number, 0) as one, store.writing(number, 1) as other:
        one.put_many(USER, names[0][:2], records([1, 2]))
        other.put_many(USER, names[1][:2], records([1, 2]))
    assert sorted(path.name for path in (folder / "000001").iterdir()) == ["0000", "0001", "model"]
    store.close()
