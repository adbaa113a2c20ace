"""The stand-ins of nearline.testing do what they say."""

import pytest

from nearline.events.log import MemoryLog
from nearline.testing import Crash, CrashingLog, ManualClock


def test_a_manual_clock_stands_still_until_it_is_moved():
    clock = ManualClock(5)
    assert (clock.now_ms(), clock.now_ms()) == (5, 5)
    clock.advance(10)
    assert clock.now_ms() == 15
    clock.set(3)
    assert clock.now_ms() == 3


def test_reading_crashes_once_at_the_record_chosen():
    log = CrashingLog(MemoryLog(), read_at=4)
    assert len(log.read(0, 10)) == 0
    log.append([b"a", b"b", b"c", b"d", b"e"])
    assert list(log.read(0, 10).records) == [b"a", b"b", b"c"]
    with pytest.raises(Crash, match="reading position 4"):
        log.read(3, 10)
    assert list(log.read(3, 10).records) == [b"d", b"e"]
    assert list(log.read(0, 10).records) == [b"a", b"b", b"c", b"d", b"e"]


@pytest.mark.parametrize(("when", "kept"), [("before", 2), ("after", 4)])
def test_appending_crashes_at_the_record_chosen_with_all_of_it_or_nothing(when, kept):
    log = CrashingLog(MemoryLog(), append_at=3, when=when)
    log.append([b"a", b"b"])
    with pytest.raises(Crash, match="appending record 3"):
        log.append([b"c", b"d"])
    assert log.end() == kept
    assert log.append([b"e"]) == kept + 1


def test_everything_else_is_the_log_behind():
    behind = MemoryLog(2)
    log = CrashingLog(behind)
    log.append([b"ab"], 1)
    assert (log.partitions, log.begin(1), log.end(1), log.size_bytes(1)) == (2, 1, 1, 2)
    assert log.trim(1, 1) == 1
    assert behind.begin(1) == 2
