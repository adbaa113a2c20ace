"""The log in a folder: several processes, kills, forks, a full disk, a map that grows, damage."""

import multiprocessing
import os
import warnings

import lmdb
import numpy as np
import pytest
from processes import (
    FORK_SERVER,
    SMALL_MAP,
    SPAWN,
    check_while_read,
    fill_up,
    has_data,
    kill,
    numbered_append,
    read_all,
    whole_appends,
    write,
    write_until_killed,
)

from nearline.errors import DataError, LogError
from nearline.events.blocks import append_in, head_in, read_in, trim_in
from nearline.events.embedded import EmbeddedLog
from nearline.events.impression import Tick
from nearline.events.wire import decode_events, encode_event


def test_what_was_appended_is_there_when_it_is_opened_again(tmp_path):
    with EmbeddedLog(tmp_path, 2) as log:
        log.append([b"a", b"b"], 1)
    with EmbeddedLog(tmp_path) as log:
        assert log.partitions == 2
        assert list(log.read(0, 9, 1)) == [(1, b"a"), (2, b"b")]
        assert log.append([b"c"], 1) == 3


def test_a_log_is_made_only_where_one_is_wanted(tmp_path):
    with pytest.raises(LogError, match="no event log there"):
        EmbeddedLog(tmp_path / "typo", create=False)
    assert not (tmp_path / "typo").exists()
    EmbeddedLog(tmp_path / "log").close()
    EmbeddedLog(tmp_path / "log", create=False).close()


def test_the_number_of_partitions_is_fixed_when_the_log_is_made(tmp_path):
    EmbeddedLog(tmp_path, 4).close()
    with pytest.raises(LogError, match="expected a log of 8 partitions, this one has 4"):
        EmbeddedLog(tmp_path, 8)
    with EmbeddedLog(tmp_path, 4) as log:
        assert log.partitions == 4


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LogError, match="file: cannot be opened: "):
        EmbeddedLog(tmp_path / "file")
    (tmp_path / "junk").mkdir()
    (tmp_path / "junk" / "data.mdb").write_bytes(b"junk" * 5_000)
    with pytest.raises(LogError, match="junk: cannot be opened: "):
        EmbeddedLog(tmp_path / "junk")


def test_a_log_of_a_later_format_is_refused(tmp_path):
    with lmdb.open(str(tmp_path)) as env, env.begin(write=True) as txn:
        txn.put(b"about", b"2 1")
    with pytest.raises(LogError, match="expected an event log of format 1, got 2"):
        EmbeddedLog(tmp_path)


def test_a_process_opens_a_log_once(tmp_path):
    with EmbeddedLog(tmp_path), pytest.raises(LogError, match="already open in this process"):
        EmbeddedLog(tmp_path)


def test_a_closed_log_says_so(tmp_path):
    log = EmbeddedLog(tmp_path)
    log.close()
    log.close()
    with pytest.raises(LogError, match="closed"):
        log.append([b"a"])


def test_the_map_grows_under_one_process_and_the_others_follow(tmp_path):
    with EmbeddedLog(tmp_path, map_bytes=SMALL_MAP) as log:
        log.append(numbered_append(0, 0, 2, 100))
        writer = FORK_SERVER.Process(target=write, args=(str(tmp_path), 1, 30, 50, 5_000))
        writer.start()
        writer.join()
        assert writer.exitcode == 0
        log.append(numbered_append(0, 1, 2, 100))
        assert log.disk_bytes() > 5 * SMALL_MAP
        assert whole_appends(read_all(log)) == {0: [0, 1], 1: list(range(30))}


def test_an_append_larger_than_the_map_is_one_append(tmp_path):
    records = numbered_append(0, 0, 900, 10_000)
    with EmbeddedLog(tmp_path, map_bytes=SMALL_MAP) as log:
        assert log.append(records) == 900
        assert list(log.read(0, 900).records) == records


def test_space_that_was_trimmed_is_used_again(tmp_path):
    with EmbeddedLog(tmp_path, map_bytes=SMALL_MAP) as log:
        for number in range(60):
            last = log.append(numbered_append(0, number, 20, 5_000))
            log.trim(last - 100)
            if number == 20:
                early = log.disk_bytes()
        assert log.disk_bytes() <= 2 * early


def test_many_processes_write_and_read_at_once(tmp_path):
    said = SPAWN.Queue()
    path, writers, appends, count = str(tmp_path), 3, 25, 9
    readers = [
        SPAWN.Process(target=check_while_read, args=(path, writers * appends * count, said)) for _ in range(2)
    ]
    processes = [SPAWN.Process(target=write, args=(path, w, appends, count, 2_500)) for w in range(writers)]
    for process in [*processes, *readers]:
        process.start()
    for _ in readers:
        assert said.get(timeout=120) == {w: list(range(appends)) for w in range(writers)}
    for process in [*processes, *readers]:
        process.join()
        assert process.exitcode == 0


def test_killed_writers_leave_whole_appends_and_the_next_one_goes_on(tmp_path):
    rng = np.random.default_rng(5)
    kills = 30
    with EmbeddedLog(tmp_path, map_bytes=SMALL_MAP) as log:
        for writer in range(kills):
            process = FORK_SERVER.Process(target=write_until_killed, args=(str(tmp_path), writer))
            until = log.end() + int(rng.integers(1, 300))
            process.start()
            while log.end() < until:
                assert process.is_alive()
            kill(process)
        found = whole_appends(read_all(log))
        assert found == {writer: list(range(len(numbers))) for writer, numbers in found.items()}
        # What a writer had written when it was killed may show only once the next one takes its lock over, which
        # may then be killed before it appends.
        assert len(found) > kills // 2
        assert (
            log.append([b"next"])
            == sum(len(numbered_append(0, n, 1 + 37 * (n % 7), 0)) for ns in found.values() for n in ns) + 1
        )


def test_a_child_after_a_fork_is_told_to_open_the_log_itself(tmp_path):
    with EmbeddedLog(tmp_path) as log:
        log.append([b"a"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # forking beside threads is what is tested
            child = multiprocessing.get_context("fork").Process(target=use_in_child, args=(log, tmp_path))
            child.start()
        child.join()
        assert child.exitcode == 0
        assert list(log.read(0, 9).records) == [b"a"]


def use_in_child(log, folder):
    for work in (lambda: log.append([b"b"]), lambda: log.read(0, 1), log.end):
        with pytest.raises(LogError, match=f"used in its child {os.getpid()}: open it after the fork"):
            work()
    log.close()
    assert has_data(folder)


def test_a_full_disk_is_said_and_what_was_appended_stays(tmp_path):
    said = SPAWN.Queue()
    process = FORK_SERVER.Process(target=fill_up, args=(str(tmp_path), 3 * 2**20, said))
    process.start()
    number, message, readable = said.get(timeout=120)
    process.join()
    assert process.exitcode == 0
    assert number > 10
    assert readable == 20 * number
    assert "what was committed before is not affected" in message
    with EmbeddedLog(tmp_path) as log:
        assert whole_appends(read_all(log)) == {0: list(range(number + 1))}


@pytest.mark.parametrize("damage", ["a byte", "all of it", "cut short"])
def test_records_that_were_damaged_in_storage_are_handed_out_as_such(tmp_path, damage):
    with EmbeddedLog(tmp_path) as log:
        for time in range(3):
            log.append([encode_event(Tick(time))] * 4)
    with lmdb.open(str(tmp_path)) as env, env.begin(write=True) as txn, txn.cursor() as cursor:
        cursor.set_range(b"\x00\x00" + (5).to_bytes(8, "big"))
        key, block = cursor.item()
        broken = {"a byte": block[:-1] + bytes([block[-1] ^ 1]), "all of it": b"", "cut short": block[:10]}
        txn.put(key, broken[damage])
    with EmbeddedLog(tmp_path) as log:
        events = decode_events(log.read(0, 20).records)
        assert [type(event) for event in events] == [Tick] * 4 + [DataError] * 4 + [Tick] * 4
        assert "damaged in the log" in str(events[4])
        assert len(log.read(6, 1)) == 1
        assert log.trim(12, appended_before_ms=2**60) == 12


def test_rows_are_appended_in_a_transaction_of_somebody_else_or_not_at_all(tmp_path):
    with lmdb.open(str(tmp_path), max_dbs=2) as env:
        rows, state = env.open_db(b"rows"), env.open_db(b"state")
        with env.begin(write=True) as txn:
            txn.put(b"position", b"1", db=state)
            assert append_in(txn, rows, 3, [b"a", b"b"], now_ms=0) == 2
            assert list(read_in(txn, rows, 3, 0, 9)) == [(1, b"a"), (2, b"b")]
        with env.begin(write=True) as txn:
            txn.put(b"position", b"2", db=state)
            append_in(txn, rows, 3, [b"c"], now_ms=0)
            txn.abort()
        with env.begin(buffers=True) as txn:
            assert bytes(txn.get(b"position", db=state)) == b"1"
            assert head_in(txn, rows, 3).end == 2
            assert list(read_in(txn, rows, 3, 1, 9)) == [(2, b"b")]
            assert all(type(record) is bytes for record in read_in(txn, rows, 3, 0, 9).records)
        with env.begin(write=True) as txn:
            assert trim_in(txn, rows, 3, 2) == 2
            assert head_in(txn, rows, 3).begin == 3


def test_a_record_too_large_is_refused_and_nothing_of_its_append_is_kept(tmp_path):
    with EmbeddedLog(tmp_path) as log:
        with pytest.raises(LogError, match="record: expected at most 67108864 bytes, got 67108865"):
            log.append([b"a", bytes(2**26 + 1)])
        assert log.end() == 0
