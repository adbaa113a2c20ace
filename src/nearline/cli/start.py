"""The console script: what must be in place before the imports, which take seconds, and then the command line."""

import os
import sys

from nearline.cli.stopping import ignore, listen

_INTERRUPTED = 130


def main() -> None:
    """Entry point of the console script.

    A worker that is asked to stop while it starts ends as one that is asked later: in order, exit code 0 for SIGTERM.
    """
    is_worker = sys.argv[1:2] == ["worker"]
    if is_worker:
        listen()
    try:
        from nearline.cli.main import run  # noqa: PLC0415 - after the signals are listened to

        code = run()
    except KeyboardInterrupt:  # within the imports
        sys.stderr.write("error: interrupted\n")
        code = _INTERRUPTED
    if is_worker:
        ignore()
    if code == _INTERRUPTED:
        sys.stderr.flush()
        os._exit(code)  # at once: threads that are still training would keep the process
    sys.exit(code)
