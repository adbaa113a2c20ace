"""A folder with rows, a configuration and a model trained by it, for the tests of every command."""

import json

import pytest
from command_line import CONFIG, write

from nearline.cli.main import run
from simulated import table


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    write(folder / "rows.csv", table(300, users=12))
    write(folder / "new.parquet", table(60, users=14, seed=5))
    (folder / "config.toml").write_text(CONFIG)
    assert run(["train", str(folder / "config.toml"), "--model", str(folder / "a.model"), "--json"]) == 0
    return folder


@pytest.fixture
def nearline(capsys):
    """Run a command line: exit code, standard output, standard error."""

    def call(*arguments):
        code = run([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return call


@pytest.fixture
def nearline_json(nearline):
    """Run a command line with --json: the document, which is all there is on standard output."""

    def call(*arguments):
        code, out, err = nearline(*arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    return call
