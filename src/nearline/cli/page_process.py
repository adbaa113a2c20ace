"""A report's page by a process of its own, which loads Matplotlib and draws while this one still trains.

Python runs one thread at a time, and drawing is all Python: beside a training in the same process each would wait for
the other. The two speak in pickles, which never leave their pipe.
"""

import gc
import pickle
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, Self, final

from nearline.errors import MissingExtraError

if TYPE_CHECKING:  # so that it can be started before what takes long to load
    from nearline.evaluate.report import Report

_NEEDED: Final = ("jinja2", "matplotlib")


@final
class PageProcess:
    """The process that draws one report. None outlives the block; and it ends with whoever began it, however that ends.

    Raises
    ------
    MissingExtraError
        If Jinja2 or Matplotlib is not installed.
    """

    def __init__(self) -> None:
        if not all(find_spec(name) for name in _NEEDED):
            raise MissingExtraError("the HTML report", "report")
        # Modules of the folder it is begun in are not its own (-P). A group of its own: an interrupt from the terminal
        # comes to whoever began it alone.
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,
        )

    def begin(self, draft: "Report") -> None:
        """Let it draw what the rows held out say: curves and groups."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        with suppress(BrokenPipeError):  # it has failed, as `finish` will say
            self._process.stdin.write(pickle.dumps(draft))
            self._process.stdin.flush()

    def finish(self, report: "Report") -> str:
        """Return the page of the report that was begun, as HTML: of curves and groups it has those of the draft."""
        page, _ = self._process.communicate(pickle.dumps(report))
        if self._process.returncode != 0:
            raise RuntimeError(
                f"the process that draws the report ended with code {self._process.returncode}"
            )
        return page.decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            self._process.kill()


def main() -> None:
    """Draw the report whose draft and then all of which are read, and write its page."""
    gc.disable()  # it draws one page and ends: looking for garbage among modules takes a tenth of the time
    from nearline.evaluate.page import judged_panels, render  # noqa: PLC0415 - needs the extra `report`

    try:
        judged = judged_panels(pickle.load(sys.stdin.buffer))  # noqa: S301 - from whoever began this process
        report = pickle.load(sys.stdin.buffer)  # noqa: S301
    except EOFError:  # whoever began it has ended
        return
    sys.stdout.buffer.write(render(report, judged).encode())


if __name__ == "__main__":
    main()
