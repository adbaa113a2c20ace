"""The demo as a real process: it serves visitors over HTTP, and whenever it is interrupted nothing of it is left."""

import json
import random
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import IO

import pytest

from nearline.cli.main import run

pytest.importorskip("uvicorn", reason="the demo needs the extra serve")

DEMO = [sys.executable, "-c", "from nearline.cli.start import main; main()", "demo", "--seconds", "6"]
DEADLINE_S = 180.0
ARMS = ["who knows the truth", "level 0, greedy", "level 2, greedy", "level 3, greedy", "level 3, Thompson"]


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that name a folder."""
    found = []
    for one in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = one.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended meanwhile
            continue
        if str(folder) in line:
            found.append(line)
    return found


def until(is_so, process: subprocess.Popen) -> None:
    """Look again and again until something is so; fail if the demo ends before, or after far too long."""
    latest = time.monotonic() + DEADLINE_S
    while not is_so():
        assert process.poll() is None
        assert time.monotonic() < latest
        time.sleep(0.01)


def said_after(words: str, said: IO[str], process: subprocess.Popen) -> str:
    """The rest of the first line that has these words."""
    for line in said:
        if words in line:
            return line.partition(words)[2].strip()
    raise AssertionError(process.wait())


def test_the_demo_shows_every_arm_side_by_side_and_ends_its_processes(tmp_path):
    done = subprocess.run(  # noqa: S603
        [*DEMO, "--json", "--out", str(tmp_path)], capture_output=True, timeout=DEADLINE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    document = json.loads(done.stdout)
    assert [arm["name"] for arm in document["arms"]] == ARMS
    assert document["visits"] > 10
    truth, *deployed = document["arms"]
    assert truth["share"] == 1.0
    assert all(0.0 < arm["share"] <= 1.0 for arm in deployed)
    assert deployed[2]["seconds_old"] < deployed[0]["seconds_old"]
    assert processes_of(tmp_path) == []
    waiting = (tmp_path / "loop" / "worker-thompson.log").read_text().splitlines()[-1]
    counts = json.loads(waiting)["events"]
    assert counts["received"] > 4000
    assert counts["learned"] > 0.99 * 4000


@pytest.mark.parametrize(
    "moment", ["level-0.toml", "serve.log", "worker-thompson.log", "level-3/log visited"]
)
def test_an_interrupt_at_any_moment_leaves_no_process(tmp_path, moment):
    name, *visited = moment.split()
    with subprocess.Popen(  # noqa: S603
        [*DEMO, "--out", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said = process.stderr
        assert said is not None
        until((tmp_path / "loop" / name).exists, process)
        if visited:
            address = said_after("Watch level 3, greedy learn: ", said, process)
            with urllib.request.urlopen(address, timeout=20) as page:  # noqa: S310 - the dashboard
                assert b"Log loss as served" in page.read()
            assert said_after("answers at ", said, process).startswith("http://127.0.0.1:")
        try:
            process.wait(random.Random(moment).random())  # noqa: S311
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert processes_of(tmp_path) == []


def test_a_folder_of_somebody_else_is_not_emptied(tmp_path):
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "mine.txt").write_text("mine")
    assert run(["demo", "--out", str(tmp_path)]) == 2
    assert (tmp_path / "loop" / "mine.txt").read_text() == "mine"
