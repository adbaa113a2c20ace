"""What other processes do to a log in the tests; each is started anew, with nothing inherited."""

import multiprocessing
import os
import resource
import signal
from pathlib import Path

from nearline.errors import LogError
from nearline.events.embedded import EmbeddedLog

SPAWN = multiprocessing.get_context("spawn")
FORK_SERVER = multiprocessing.get_context("forkserver")
"""As clean as spawning, and quick: the server has imported what the children need, and never opened a log."""
FORK_SERVER.set_forkserver_preload(["nearline.events.embedded"])
SMALL_MAP = 2**20


def numbered_append(writer: int, number: int, count: int, size: int) -> list[bytes]:
    """An append of `count` records that say of which append they are, and of how many."""
    return [f"{writer} {number} {part} {count} ".encode().ljust(size, b".") for part in range(count)]


def whole_appends(records) -> dict[int, list[int]]:
    """Numbers of the appends of each writer, in order; fails unless each is whole and lies together."""
    found: dict[int, list[int]] = {}
    at = 0
    while at < len(records):
        writer, number, _, count = map(int, records[at].split(b" ")[:4])
        expected = numbered_append(writer, number, count, len(records[at]))
        assert list(records[at : at + count]) == expected
        found.setdefault(writer, []).append(number)
        at += count
    return found


def read_all(log, chunk=997, partition=0):
    after, records = log.begin(partition) - 1, []
    while batch := log.read(after, chunk, partition):
        records += batch.records
        after = batch.last
    return records


def write(folder: str, writer: int, appends: int, count: int, size: int) -> None:
    with EmbeddedLog(folder, map_bytes=SMALL_MAP) as log:
        for number in range(appends):
            log.append(numbered_append(writer, number, count, size))


def write_until_killed(folder: str, writer: int) -> None:
    with EmbeddedLog(folder, map_bytes=SMALL_MAP) as log:
        number = 0
        while True:
            log.append(numbered_append(writer, number, 1 + 37 * (number % 7), 4_000))
            number += 1


def check_while_read(folder: str, expected: int, said) -> None:
    """Read as records come, until there are so many; say how they were appended."""
    with EmbeddedLog(folder, map_bytes=SMALL_MAP) as log:
        records, seen = [], 0
        while seen < expected:
            batch = log.read(seen, 100)
            records += batch.records
            seen = batch.last
            assert log.end() >= seen
    said.put(whole_appends(records))


def fill_up(folder: str, limit: int, said) -> None:
    """Append until no file may grow; then once more with a higher limit."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with EmbeddedLog(folder, map_bytes=SMALL_MAP) as log:
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        number, message = 0, ""
        while not message:
            try:
                log.append(numbered_append(0, number, 20, 3_000))
                number += 1
            except LogError as error:
                message = str(error)
        readable = len(read_all(log))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        log.append(numbered_append(0, number, 20, 3_000))
    said.put((number, message, readable))


def has_data(folder: Path) -> bool:
    return (folder / "data.mdb").is_file()


def kill(process) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.join()
