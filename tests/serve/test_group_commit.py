"""A commit for many answers each of them, whatever the log or one of them does."""

from collections.abc import Sequence

import pytest

from nearline.errors import LogError
from nearline.events.log import MemoryLog
from nearline.serve.group_commit import GroupCommit


class Broken(MemoryLog):
    """Fails in a way that no log should, once."""

    failed = False

    def append(self, records: Sequence[bytes], partition: int = 0) -> int:
        if not self.failed:
            self.failed = True
            raise ZeroDivisionError("of somebody else")
        return super().append(records, partition)


def test_an_error_that_is_not_the_logs_own_is_said_and_the_next_append_done() -> None:
    log = Broken()
    commit = GroupCommit(log, 10)
    with pytest.raises(LogError, match="ZeroDivisionError"):
        commit.append([b"first"])
    commit.append([b"second"])
    commit.close()
    assert [record for _, record in log.read(0, 10)] == [b"second"]


def test_one_whose_answer_fails_leaves_the_others_theirs(caplog: pytest.LogCaptureFixture) -> None:
    def fails(error: LogError | None) -> None:
        raise ZeroDivisionError

    commit = GroupCommit(MemoryLog(), 10)
    commit.submit([b"first"], fails)
    commit.append([b"second"])
    commit.close()
    assert "after an append failed" in caplog.text
