"""What every event log promises; the one in memory is the specification."""

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearline.errors import LogError
from nearline.events.embedded import EmbeddedLog
from nearline.events.log import EventLog, MemoryLog
from nearline.testing import ManualClock


def memory(folder, clock, partitions=1):
    return MemoryLog(partitions, clock=clock)


def embedded(folder, clock, partitions=1):
    return EmbeddedLog(folder, partitions, map_bytes=2**20, clock=clock)


LOGS = {"memory": memory, "embedded": embedded}


@pytest.fixture
def clock():
    return ManualClock(1_000)


@pytest.fixture(params=LOGS)
def make_log(request, tmp_path, clock):
    """Make a log of its own for each call, closed at the end."""
    made = []

    def make(partitions=1) -> EventLog:
        made.append(LOGS[request.param](tmp_path / str(len(made)), clock, partitions))
        return made[-1]

    yield make
    for log in made:
        if hasattr(log, "close"):
            log.close()


@pytest.fixture
def log(make_log):
    return make_log()


def numbered(count, begin=0):
    return [f"record {i}".encode() for i in range(begin, begin + count)]


def test_a_new_log_is_empty(log):
    assert (log.begin(), log.end(), log.size_bytes(), log.partitions) == (1, 0, 0, 1)
    assert len(log.read(0, 10)) == 0
    assert log.read(0, 10).first == 1
    assert log.read(0, 10).last == 0
    assert log.trim(100) == 0


def test_records_have_the_positions_1_2_3_in_the_order_they_were_appended(log):
    assert log.append([b"a", b"b"]) == 2
    assert log.append([b"c"]) == 3
    assert list(log.read(0, 10)) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert (log.begin(), log.end()) == (1, 3)


def test_appending_nothing_changes_nothing(log):
    assert log.append([]) == 0
    log.append([b"a"])
    assert log.append([]) == 1
    assert log.end() == 1


def test_any_bytes_are_kept_as_they_are(log):
    records = [b"", b"\x00", b"\x00" * 9_000, bytes(range(256)), b"", b"x" * 2_037, b"\xff" * 700_000]
    log.append(records)
    assert list(log.read(0, 10).records) == records
    assert log.size_bytes() == sum(map(len, records))


def test_a_large_append_is_read_in_stretches_of_any_length(log):
    records = [bytes([i % 256]) * (i % 1_500) for i in range(2_000)]
    assert log.append(records) == 2_000
    for limit in (1, 7, 333, 1_999, 5_000):
        after, found = 0 if limit > 1 else 1_950, []
        while len(batch := log.read(after, limit)):
            assert batch.first == after + 1
            assert len(batch) <= limit
            found += batch.records
            after = batch.last
        assert found == records[-len(found) :]
        assert after == 2_000


@given(
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.binary(max_size=5), max_size=5)), max_size=12),
    st.data(),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_partition_read_from_any_position_is_what_was_appended_to_it(make_log, appends, data):
    log, expected = make_log(3), {0: [], 1: [], 2: []}
    for partition, records in appends:
        expected[partition] += records
        assert log.append(records, partition) == len(expected[partition])
    for partition, records in expected.items():
        after = data.draw(st.integers(0, len(records)))
        limit = data.draw(st.integers(1, 20))
        assert list(log.read(after, limit, partition).records) == records[after : after + limit]
        assert log.end(partition) == len(records)
        assert log.size_bytes(partition) == sum(map(len, records))


def test_the_last_and_the_first_partition_do_not_mix(make_log):
    log = make_log(65_536)
    for partition in (65_535, 0, 255, 256):
        log.append([f"{partition}".encode()], partition)
    for partition in (0, 255, 256, 65_535):
        assert list(log.read(0, 9, partition)) == [(1, f"{partition}".encode())]
    assert log.end(1) == 0


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda log: log.read(4, 1), "after: expected at most 3, the last position in the log, got 4"),
        (lambda log: log.read(-1, 1), "trimmed"),
        (lambda log: log.read(0, 0), "limit: expected 1 or more records, got 0"),
        (lambda log: log.append([b"a"], 1), "partition: expected 0 to 0, got 1"),
        (lambda log: log.read(0, 1, -1), "partition: expected 0 to 0, got -1"),
        (lambda log: log.end(7), "partition"),
        (lambda log: log.begin(7), "partition"),
        (lambda log: log.size_bytes(7), "partition"),
        (lambda log: log.trim(1, 7), "partition"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(log, work, message):
    log.append(numbered(3))
    with pytest.raises(LogError, match=message):
        work(log)
    assert list(log.read(0, 9).records) == numbered(3)


@pytest.mark.parametrize("partitions", [0, -1, 65_537])
def test_a_log_has_1_to_65536_partitions(make_log, partitions):
    with pytest.raises(LogError, match=f"partitions: expected 1 to 65536, got {partitions}"):
        make_log(partitions)


def append_one_by_one(log, count):
    for record in numbered(count):
        log.append([record])


def test_trimming_removes_the_oldest_up_to_a_position_and_positions_go_on(log):
    append_one_by_one(log, 10)
    assert log.trim(4) == 4
    assert (log.begin(), log.end()) == (5, 10)
    assert list(log.read(4, 2)) == [(5, b"record 4"), (6, b"record 5")]
    with pytest.raises(LogError, match=r"the records from 3 to 4 were trimmed; read after 4"):
        log.read(2, 10)
    assert log.trim(100) == 6
    assert (log.begin(), log.end(), log.size_bytes()) == (11, 10, 0)
    assert log.append([b"next"]) == 11
    assert list(log.read(10, 10)) == [(11, b"next")]


def test_trimming_by_age_keeps_what_was_appended_since(log, clock):
    append_one_by_one(log, 3)
    clock.set(2_000)
    append_one_by_one(log, 3)
    assert log.trim(100, appended_before_ms=1_000) == 0
    assert log.trim(2, appended_before_ms=2_000) == 2
    assert log.trim(100, appended_before_ms=2_000) == 1
    assert (log.begin(), log.end()) == (4, 6)


def test_trimming_by_size_leaves_that_many_bytes_or_more(log):
    for _ in range(10):
        log.append([b"x" * 100])
    assert log.trim(100, keep_bytes=2_000) == 0
    assert log.trim(100, keep_bytes=350) == 6
    assert log.size_bytes() == 400
    assert log.trim(8, keep_bytes=0) == 2
    assert log.size_bytes() == 200


def test_trimming_by_age_and_size_removes_only_what_both_let_go(log, clock):
    append_one_by_one(log, 4)
    clock.set(5_000)
    append_one_by_one(log, 4)
    size = log.size_bytes()
    assert log.trim(100, appended_before_ms=5_000, keep_bytes=size - 20) == 2
    assert log.trim(100, appended_before_ms=5_000, keep_bytes=0) == 2


def test_trimming_never_removes_more_than_asked_of_a_large_append(log):
    log.append([b"y" * 1_000 for _ in range(3_000)])
    removed = log.trim(1_700)
    assert removed <= 1_700
    assert log.begin() == removed + 1
    assert log.size_bytes() == 1_000 * (3_000 - removed)
    assert len(log.read(removed, 5_000)) == 3_000 - removed


def test_partitions_are_trimmed_each_by_itself(make_log):
    log = make_log(2)
    log.append(numbered(3), 0)
    log.append(numbered(3), 1)
    assert log.trim(3, 1) == 3
    assert (log.begin(0), log.begin(1)) == (1, 4)


def test_threads_may_share_a_log(log):
    def write(name):
        for i in range(30):
            log.append([f"{name} {i} {part}".encode() for part in "ab"])

    threads = [threading.Thread(target=write, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = log.read(0, 1_000).records
    assert len(records) == 180
    for name in "xyz":
        assert [r for r in records if r.startswith(name.encode())] == [
            f"{name} {i} {part}".encode() for i in range(30) for part in "ab"
        ]
    assert all(a[:-1] == b[:-1] for a, b in zip(records[::2], records[1::2], strict=True))
