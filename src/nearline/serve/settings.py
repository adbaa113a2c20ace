"""Where a process answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import final


@final
@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how a process answers.

    Attributes
    ----------
    port : 0 is any free one.
    token : that clients must show; None asks for none.
    certificate, key : files of TLS; None is plain HTTP.
    drain_s : how long requests under way may take once it is told to stop.
    traces : whether requests are spans of OpenTelemetry.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    drain_s: int = 10
    traces: bool = False
