"""One process for each job: locks that the operating system gives back when their holder dies."""

import fcntl
import os
from pathlib import Path
from typing import final

from nearline.errors import ConfigError


def process_with(folder: Path, name: str) -> int | None:
    """The process that has, or was the last to have, a role; None if nobody had it or that process is gone.

    The lock is left alone: looking at a role never keeps anybody from taking it.
    """
    try:
        process = int((folder / name).read_text())
        os.kill(process, 0)
    except PermissionError:  # it is there, and somebody else's
        return process
    except (OSError, ValueError):
        return None
    return process


@final
class Role:
    """A job that one process at a time has, such as joining, or learning a partition.

    Raises `ConfigError` if another process has it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise ConfigError(
                f"{folder}: process {holder} has the role {name!r} already; stop it, or give every worker its own index"
            ) from error
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Give the role back."""
        os.close(self._file)
