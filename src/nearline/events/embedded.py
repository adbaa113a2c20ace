"""The event log in a folder of this machine: an LMDB environment that many processes append to and read from."""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, final

from nearline.clock import Clock, SystemClock
from nearline.environment import MAP_BYTES, Environment, Transaction
from nearline.errors import LogError
from nearline.events.blocks import append_in, head_in, read_in, trim_in
from nearline.events.log import Batch, require_partition, require_partitions

_ABOUT = b"about"
"""The key of the format's version and the number of partitions; no key of a block is as short."""
_FORMAT = 1


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
        map_bytes: int = MAP_BYTES,
        clock: Clock | None = None,
    ) -> None:
        self._folder = Path(folder)
        self._clock = clock or SystemClock()
        if partitions is not None:
            require_partitions(partitions)
        if not create and not (self._folder / "data.mdb").is_file():
            raise LogError(f"{folder}: no event log there")
        # The log is the only copy of its events, so its last commit is flushed too.
        self._environment = Environment(
            self._folder, [], refusal=LogError, map_bytes=map_bytes, sync_last=True
        )
        try:
            self._partitions = self._agree_on_partitions(partitions)
        except BaseException:
            self._environment.close()
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
        return self._environment.write(
            lambda txn: append_in(txn, None, partition, records, self._clock.now_ms())
        )

    def read(self, after: int, limit: int, partition: int = 0) -> Batch:
        """Return up to `limit` records that follow position `after`."""
        require_partition(partition, self._partitions)
        with self._environment.read() as txn:
            return read_in(txn, None, partition, after, limit)

    def begin(self, partition: int = 0) -> int:
        """The position of the oldest record there is."""
        require_partition(partition, self._partitions)
        with self._environment.read() as txn:
            return head_in(txn, None, partition).begin

    def end(self, partition: int = 0) -> int:
        """The position of the last record."""
        require_partition(partition, self._partitions)
        with self._environment.read() as txn:
            return head_in(txn, None, partition).end

    def size_bytes(self, partition: int = 0) -> int:
        """The bytes of all records there are."""
        require_partition(partition, self._partitions)
        with self._environment.read() as txn:
            return head_in(txn, None, partition).size_bytes

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

        def some(txn: Transaction) -> int:
            return trim_in(
                txn, None, partition, up_to, appended_before_ms=appended_before_ms, keep_bytes=keep_bytes
            )

        removed = 0
        while now := self._environment.write(some):
            removed += now
        return removed

    def close(self) -> None:
        """Let go of the folder. The log cannot be used after."""
        self._environment.close()

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
        with self._environment.read() as txn:
            about = txn.get(_ABOUT)
        if about is None:
            about = self._environment.write(lambda txn: _write_about(txn, wanted or 1))
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


def _write_about(txn: Transaction, partitions: int) -> bytes:
    """What the log is, written unless another process has just done so."""
    txn.put(_ABOUT, f"{_FORMAT} {partitions}".encode(), overwrite=False)
    return bytes(txn.get(_ABOUT) or b"")
