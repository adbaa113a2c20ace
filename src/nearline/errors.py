"""Every error nearline raises on purpose.

::

    NearlineError
    ├── ConfigError       the configuration is wrong; the message starts with the key's path
    ├── DataError         the input data are wrong; the message names the file, column or row
    ├── LogError          the event log cannot be read or written; what is in it stays
    ├── ModelError        a saved model cannot be read, or does not fit what is asked of it
    ├── RequestError      a request that cannot be answered; the message starts with the path of the field
    ├── BusyError         too much is waiting: nothing was done, try again later
    ├── StaleWriteError   someone else has written these records since they were read; nothing was written
    └── MissingExtraError an optional dependency is absent; the message is the command that installs it

Each message says what was expected, what was found and, where it is known, how to put it right.
One entity that cannot be fitted is not an error but a value (`nearline.posterior.Status`).
"""

from typing import final


class NearlineError(Exception):
    """The root of all errors raised on purpose."""


@final
class ConfigError(NearlineError):
    """A configuration that cannot be used."""


@final
class DataError(NearlineError):
    """Input data that cannot be used."""


@final
class LogError(NearlineError):
    """An event log that cannot be read or written."""


@final
class ModelError(NearlineError):
    """A model that cannot be read, or does not fit the request."""


@final
class StaleWriteError(NearlineError):
    """Records that someone else has written since they were read; nothing was written.

    `names` are the entities whose version was not the next one; none where only state would have been lost.
    """

    def __init__(self, message: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.names = names


@final
class RequestError(NearlineError):
    """A request that cannot be answered as it is.

    `path` says where in the request, as in ``$.candidates[3].features.age``.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


@final
class BusyError(NearlineError):
    """Too much is waiting to be written; nothing was done, and nothing was lost."""


@final
class MissingExtraError(NearlineError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(f"{purpose} needs an optional part: pip install 'nearline[{extra}]'")
