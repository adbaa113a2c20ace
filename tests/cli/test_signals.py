"""Real processes: interrupted at several moments, and read by somebody who has soon had enough."""

import os
import pty
import signal
import subprocess
import sys

import pytest

from nearline.errors import ModelError
from nearline.model.saved import load_model

NEARLINE = [sys.executable, "-c", "from nearline.cli.start import main; main()"]


@pytest.mark.parametrize("moment", ["read", "training", "save", "report"])
def test_an_interrupt_ends_at_once_and_leaves_no_half_model(trained_folder, tmp_path, moment):
    config = (trained_folder / "config.toml").read_text().replace("resamples = 10", "resamples = 2000")
    (tmp_path / "c.toml").write_text(config.replace("sweeps = 2", "sweeps = 40\ntolerance = 0.0"))
    command = [*NEARLINE, "train", "c.toml", "--data", str(trained_folder), "--model", "m"]
    terminal, screen = pty.openpty()
    with subprocess.Popen(command, cwd=tmp_path, stderr=screen, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        os.close(screen)
        seen = ""
        while moment not in seen:
            seen += os.read(terminal, 4096).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        try:
            while block := os.read(terminal, 4096):
                seen += block.decode(errors="replace")
        except OSError:  # how Linux says that nobody holds the other end any more
            pass
        code = process.wait(timeout=60)
    os.close(terminal)
    assert code == 130
    assert "error: interrupted" in seen
    assert "Traceback" not in seen
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    try:
        load_model(tmp_path / "m")
    except ModelError as error:
        assert "found no model.json" in str(error)  # noqa: PT017 - either is right
        assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("how", [["--json"], []])
def test_a_reader_who_closes_the_pipe_early_hears_no_complaint(trained_folder, how):
    command = [*NEARLINE, "inspect", str(trained_folder / "a.model"), "u1", *how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 1
