"""What a page is made from: the open handles of a deployment."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from nearline.events.log import EventLog
from nearline.store.seam import ModelStore
from nearline.stream.joined_log import JoinedLog


@final
@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """A deployment that somebody has open; a process opens each of these once, and may share them.

    Attributes
    ----------
    log, rows, store : its events, its labelled rows and dead letters, its generations and records.
    name : what to call it on the pages.
    roles : the folder of the workers' locks; None where it is not known, so nothing is said of processes.
    """

    log: EventLog
    rows: JoinedLog
    store: ModelStore
    name: str
    roles: Path | None = None
