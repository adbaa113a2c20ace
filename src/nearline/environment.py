"""One LMDB environment of this process: short transactions, a map that grows, errors that say what to do.

LMDB maps a file of a fixed size into memory. Where the size does not do, the map is made larger while no
transaction of this process is open, and the write begins again; other processes notice and follow.
An environment must not be used on both sides of a fork, which is found here and refused.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from typing import Any, TypeAlias, TypeVar, final

import lmdb

from nearline.errors import NearlineError

MAP_BYTES = 1 << 30
"""Of address space, not of disk: what an environment's map begins with."""

Transaction: TypeAlias = Any
"""One of LMDB; to its stubs every value may be a memoryview, which only those that ask for it get."""

T = TypeVar("T")

_READERS = 1024


class _Here:
    """The number of the process here, as the system said it once."""

    process = os.getpid()

    @classmethod
    def ask(cls) -> None:
        cls.process = os.getpid()


os.register_at_fork(after_in_child=_Here.ask)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@final
class Environment:
    """An environment with databases of given names, made where they are not there yet, beside the one without a name.

    Parameters
    ----------
    folder : where it is, or is made.
    databases : their names; none where only the one without a name is used.
    refusal : the class of the error raised where it cannot be opened, read or written; what was committed stays.
    map_bytes : address space to begin with.
    sync_last : whether the page that says which commit is the last is flushed as well. Without it a power cut may
        lose the last commit, never part of one.
    """

    def __init__(
        self,
        folder: Path,
        databases: Sequence[str],
        *,
        refusal: type[NearlineError],
        map_bytes: int = MAP_BYTES,
        sync_last: bool = False,
    ) -> None:
        self.folder = folder
        self._refusal = refusal
        self._process = _Here.process
        self._gate = _Gate()
        with self._errors("cannot be opened: "):
            folder.mkdir(parents=True, exist_ok=True)
            self._lmdb = lmdb.open(
                os.fspath(folder),
                map_size=map_bytes,
                max_dbs=len(databases),
                max_readers=_READERS,
                metasync=sync_last,
                readahead=False,
            )
            self._lmdb.reader_check()  # places of readers that were killed
        self._databases: dict[str, Any] = {}
        if databases:
            self.write(lambda txn: self._open(databases, txn))

    def __getitem__(self, name: str) -> Any:
        """The database of that name."""
        return self._databases[name]

    @property
    def map_bytes(self) -> int:
        """The present size of the map."""
        return int(self._lmdb.info()["map_size"])

    def last_commit(self) -> int:
        """The number of the last commit of any process: one more with each. Quick to ask: nothing is read."""
        if self._process != _Here.process:
            raise self._forked()
        self._gate.enter()
        try:
            return int(self._lmdb.info()["last_txnid"])
        finally:
            self._gate.leave()

    @contextmanager
    def read(self, *, buffers: bool = False) -> Iterator[Transaction]:
        """One state of all databases. Read what is needed and leave; do not nest.

        With `buffers` values are not copied: they lie in the map, and are gone when the block ends.
        """
        begin: Any = self._lmdb.begin
        with self._errors():
            while True:
                with self._gate:
                    try:
                        txn: Transaction = begin(buffers=buffers)
                    except lmdb.MapResizedError:
                        pass
                    else:
                        with txn:
                            yield txn
                        return
                self._follow()

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Commit what `work` does, on disk when this returns; if it raises, nothing. It may be called again."""
        with self._errors():
            while True:
                size = self.map_bytes
                try:
                    with self._gate, self._lmdb.begin(write=True) as txn:
                        done = work(txn)
                    return done
                except lmdb.MapFullError:
                    self._grow(size)
                except lmdb.MapResizedError:
                    self._follow()

    def close(self) -> None:
        """Let go of the files."""
        if self._process == _Here.process:
            with self._gate.alone():
                self._lmdb.close()

    def _open(self, databases: Sequence[str], txn: Transaction) -> None:
        self._databases = {name: self._lmdb.open_db(name.encode(), txn=txn) for name in databases}

    def _grow(self, size: int) -> None:
        with self._gate.alone():
            if self.map_bytes == size:  # else another thread has done so
                self._lmdb.set_mapsize(2 * size)

    def _follow(self) -> None:
        """Take over the size that another process has given the map."""
        with self._gate.alone():
            self._lmdb.set_mapsize(0)

    def _forked(self) -> NearlineError:
        return self._refusal(
            f"{self.folder}: opened in process {self._process}, used in its child {_Here.process}: "
            "open it after the fork"
        )

    @contextmanager
    def _errors(self, what: str = "") -> Iterator[None]:
        if self._process != _Here.process:
            raise self._forked()
        try:
            yield
        except (lmdb.Error, OSError) as error:
            raise self._refusal(
                f"{self.folder}: {what}{error}; what was committed before is not affected{_remedy(str(error))}"
            ) from error


def _remedy(said: str) -> str:
    """What to do about an error of the disk; LMDB calls it an input/output error if only a part could be written."""
    if any(os.strerror(code) in said for code in _NO_ROOM):
        return ". The disk is full, at its quota or faulty: make room for it, then start again"
    return ""


@final
class _Gate:
    """Lets any number of threads inside (`with gate:`), or one alone."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._changed = Condition(self._lock)
        self._inside = 0
        self._alone = False

    def __enter__(self) -> None:
        self.enter()

    def __exit__(self, *_: object) -> None:
        self.leave()

    def enter(self) -> None:
        """Go inside, once nobody is alone there."""
        with self._lock:
            while self._alone:
                self._changed.wait()
            self._inside += 1

    def leave(self) -> None:
        """Go outside again."""
        with self._lock:
            self._inside -= 1
            if self._alone:
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: self._inside == 0)
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
