"""The event log in a folder of this machine: an LMDB environment that many processes append to and read from."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, final

import lmdb

from nearline.clock import Clock, SystemClock
from nearline.errors import LogError
from nearline.events.blocks import append_in, head_in, read_in, trim_in
from nearline.events.log import Batch, require_partition, require_partitions

T = TypeVar("T")
Work = Callable[[lmdb.Transaction], T]

_ABOUT = b"about"
"""The key of the format's version and the number of partitions; no key of a block is as short."""
_FORMAT = 1
_MAP_BYTES = 1 << 30
_MAX_READERS = 512


@final
class EmbeddedLog:
    """An `EventLog` in a folder.

    A process opens a folder once, and shares the log among its threads. After a fork the child opens it again; the
    log of the parent refuses to work there. A process that is killed leaves whole appends only.

    Parameters
    ----------
    folder : where it is, or is made if there is none.
    partitions : how many there are to be; None is 1 for a new log, and whatever it has for one that is there.
    create : whether to make a log where there is none.
    map_bytes : address space to begin with; it grows by itself, and costs no space on disk until it is used.
    clock : tells when records are appended, for `trim`.

    Raises
    ------
    LogError
        There is no log and none is to be made, it has another number of partitions, this process has it open
        already, or the folder cannot be used.
    """

    def __init__(
        self,
        folder: Path | str,
        partitions: int | None = None,
        *,
        create: bool = True,
        map_bytes: int = _MAP_BYTES,
        clock: Clock | None = None,
    ) -> None:
        self._folder = Path(folder)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._process = os.getpid()
        if partitions is not None:
            require_partitions(partitions)
        if not create and not (self._folder / "data.mdb").is_file():
            raise LogError(f"{folder}: no event log there")
        self._env = _open(self._folder, map_bytes)
        try:
            self._env.reader_check()  # forget readers that were killed, or their pages are never used again
            self._partitions = self._agree_on_partitions(partitions)
        except BaseException:
            self._env.close()
            raise

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return self._partitions

    def append(self, records: Sequence[bytes], partition: int = 0) -> int:
        """Append records, and return the position of the partition's last record."""
        require_partition(partition, self._partitions)
        if not records:
            return self.end(partition)
        return self._writing(lambda txn: append_in(txn, None, partition, records, self._clock.now_ms()))

    def read(self, after: int, limit: int, partition: int = 0) -> Batch:
        """Return up to `limit` records that follow position `after`."""
        require_partition(partition, self._partitions)
        return self._reading(lambda txn: read_in(txn, None, partition, after, limit))

    def begin(self, partition: int = 0) -> int:
        """The position of the oldest record there is."""
        require_partition(partition, self._partitions)
        return self._reading(lambda txn: head_in(txn, None, partition)).begin

    def end(self, partition: int = 0) -> int:
        """The position of the last record."""
        require_partition(partition, self._partitions)
        return self._reading(lambda txn: head_in(txn, None, partition)).end

    def size_bytes(self, partition: int = 0) -> int:
        """The bytes of all records there are."""
        require_partition(partition, self._partitions)
        return self._reading(lambda txn: head_in(txn, None, partition)).size_bytes

    def disk_bytes(self) -> int:
        """The space on disk; what was trimmed is used again, not given back."""
        return (self._folder / "data.mdb").stat().st_blocks * 512

    def trim(
        self,
        up_to: int,
        partition: int = 0,
        *,
        appended_before_ms: int | None = None,
        keep_bytes: int | None = None,
    ) -> int:
        """Remove the oldest records, and return how many."""
        require_partition(partition, self._partitions)

        def some(txn: lmdb.Transaction) -> int:
            return trim_in(
                txn, None, partition, up_to, appended_before_ms=appended_before_ms, keep_bytes=keep_bytes
            )

        removed = 0
        while now := self._writing(some):
            removed += now
        return removed

    def close(self) -> None:
        """Let go of the folder. The log cannot be used after."""
        if self._process == os.getpid():
            with self._lock:
                self._env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _agree_on_partitions(self, wanted: int | None) -> int:
        about = self._reading(lambda txn: txn.get(_ABOUT))
        if about is None:
            about = self._writing(lambda txn: _write_about(txn, wanted or 1))
        version, partitions = map(int, bytes(about).split())
        if version != _FORMAT:
            raise LogError(
                f"{self._folder}: expected an event log of format {_FORMAT}, got {version}: "
                "was it written by a later nearline?"
            )
        if wanted not in {None, partitions}:
            raise LogError(
                f"{self._folder}: expected a log of {wanted} partitions, this one has {partitions}"
            )
        return partitions

    def _reading(self, work: Work[T]) -> T:
        return self._transact(work, write=False)

    def _writing(self, work: Work[T]) -> T:
        return self._transact(work, write=True)

    def _transact(self, work: Work[T], *, write: bool) -> T:
        """Do the work in a transaction; again with a larger map where this process's has become too small.

        One transaction at a time in a process, since the map cannot grow under another.
        """
        if self._process != os.getpid():
            raise LogError(
                f"{self._folder}: opened in process {self._process}, used in its child {os.getpid()}: "
                "open the log after the fork"
            )
        with self._lock:
            while True:
                try:
                    with self._env.begin(write=write) as txn:
                        return work(txn)
                except lmdb.MapFullError:
                    self._resize(2 * self._env.info()["map_size"])
                except lmdb.MapResizedError:
                    self._resize(0)
                except lmdb.Error as error:
                    raise self._refusal(error) from error

    def _resize(self, size: int) -> None:
        """Map so many bytes; 0 is what another process has grown it to."""
        try:
            self._env.set_mapsize(size)
        except lmdb.Error as error:
            raise self._refusal(error) from error

    def _refusal(self, error: lmdb.Error) -> LogError:
        return LogError(f"{self._folder}: {error}; what was in the log before is untouched")


def _open(folder: Path, map_bytes: int) -> lmdb.Environment:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # With metasync: the log is the only copy of its events. Everything derived from it can do without.
        return lmdb.open(
            str(folder), map_size=map_bytes, max_readers=_MAX_READERS, metasync=True, readahead=False
        )
    except (lmdb.Error, OSError) as error:
        raise LogError(f"{folder}: cannot be opened as an event log: {error}") from error


def _write_about(txn: lmdb.Transaction, partitions: int) -> bytes:
    """What the log is, written unless another process has just done so."""
    txn.put(_ABOUT, f"{_FORMAT} {partitions}".encode(), overwrite=False)
    return bytes(txn.get(_ABOUT) or b"")
