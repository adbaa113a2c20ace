"""What a server says of itself: lines of text or of JSON, on standard error."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, Literal, final

LOGGER: Final = logging.getLogger("nearline.serve")


def configure_logs(kind: Literal["text", "json"]) -> None:
    """Write what the server says to standard error, and of the HTTP server below it what went wrong."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if kind == "json" else logging.Formatter("%(levelname)s: %(message)s"))
    for name, level in (("nearline.serve", logging.INFO), ("uvicorn.error", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.setLevel(level)
        logger.propagate = False


@final
class _Json(logging.Formatter):
    """One object a line: time, level, message, what came with it, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            said["traceback"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)
