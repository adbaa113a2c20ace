"""The Open Inference Protocol, version 2."""

from typing import Any, Final

PATHS: Final[dict[str, Any]] = {}
