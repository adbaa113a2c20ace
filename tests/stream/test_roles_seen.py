"""Looking at who has a role."""

import os
import subprocess
import sys

import pytest

from nearline.errors import ConfigError
from nearline.stream.roles import Role, process_with


def test_nobody_has_a_role_that_nobody_took(tmp_path):
    assert process_with(tmp_path, "join") is None
    (tmp_path / "join").write_text("no number")
    assert process_with(tmp_path, "join") is None


def test_a_process_that_is_gone_has_no_role(tmp_path):
    code = f"from pathlib import Path; from nearline.stream.roles import Role; Role(Path({str(tmp_path)!r}), 'join')"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own code
    assert process_with(tmp_path, "join") is None


def test_looking_keeps_nobody_from_a_role(tmp_path):
    role = Role(tmp_path, "join")
    assert process_with(tmp_path, "join") == os.getpid()
    with pytest.raises(ConfigError, match="has the role"):
        Role(tmp_path, "join")
    role.close()
    Role(tmp_path, "join").close()
