"""What goes wrong at the command line is said in one line that starts with `error: `, with the right exit code."""

import subprocess
import sys

import pyarrow as pa
import pytest
from command_line import CONFIG, write

from simulated import table

COMMANDS = ["train", "refit", "score", "evaluate", "inspect", "demo", "replay"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, nearline):
    code, out, err = nearline(command, "--help")
    assert (code, err) == (0, "")
    assert "Usage: nearline" in out or "Usage:" in out
    assert "--json" in out


def test_the_list_of_commands_loads_none_of_them():
    code = "import sys; from nearline.cli.main import run; run(['--help']); print({*sys.modules} & {'numpy', 'scipy'})"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)  # noqa: S603 - ourselves
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)
    assert done.stdout.endswith("set()\n")


def test_without_a_command_the_help_is_shown_as_wrong_usage(nearline):
    code, out, err = nearline()
    assert (code, out) == (2, "")
    assert all(command in err for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["train"],
        ["train", "c.toml", "extra"],
        ["train", "c.toml", "--bogus"],
        ["refit", "m", "rows.csv", "--level", "3"],
        ["refit", "m", "rows.csv", "--keep", "everything"],
        ["demo", "--rows", "ten"],
        ["inspect", "m", "u1", "--top", "0"],
    ],
)
def test_wrong_usage_is_an_error_of_one_line_and_the_usage(arguments, nearline):
    code, out, err = nearline(*arguments)
    assert (code, out) == (2, "")
    first, *rest = err.splitlines()
    assert first.startswith("error: ")
    assert all(line.startswith("Usage:") for line in rest)


def csv(text):
    return lambda folder: (folder / "rows.csv").write_text(text)


def rows_of(rows):
    return lambda folder: write(folder / "rows.csv", rows)


TRAINING = {
    "no file": (lambda folder: None, "rows.csv: no such file"),
    "a folder": (lambda folder: (folder / "rows.csv").mkdir(), "expected a directory with .parquet files"),
    "an empty file": (csv(""), "cannot be read: Empty CSV file"),
    "a header alone": (rows_of(table(0)), "no row can be learned from"),
    "one row": (rows_of(table(1)), "leaves none to judge by"),
    "no labels": (rows_of(table(50, y=pa.array([None] * 50, pa.float64()))), "no row can be learned from"),
    "labels that are words": (rows_of(table(50, y=pa.array(["yes"] * 50))), "column 'y' (response), row 0"),
    "a missing column": (rows_of(table(50).drop(["genre"])), "column 'genre' (bags.b) is not in the table"),
    "a near miss": (
        rows_of(table(50).rename_columns(["y", "weight", "offset", "usr", "film", "x", "genre"])),
        "did you mean 'usr'?",
    ),
    "ragged lines": (csv("y,weight\n1,2\n1,2,3\n"), "rows.csv: cannot be read"),
}


@pytest.mark.parametrize("case", TRAINING)
def test_rows_that_will_not_do_are_an_error_that_says_why(case, tmp_path, nearline):
    make, message = TRAINING[case]
    make(tmp_path)
    (tmp_path / "c.toml").write_text(CONFIG)
    code, out, err = nearline("train", tmp_path / "c.toml", "--model", tmp_path / "m", "--json")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "m").exists()


def test_labels_that_are_all_equal_are_learned_with_a_warning(tmp_path, nearline):
    write(tmp_path / "rows.csv", table(50, y=pa.array([1.0] * 50)))
    (tmp_path / "c.toml").write_text(CONFIG)
    code, _, err = nearline("train", tmp_path / "c.toml", "--model", tmp_path / "m")
    assert code == 0
    assert "warning: the fixed effect: every response is 1" in err


def test_one_entity_is_enough(tmp_path, nearline):
    write(tmp_path / "rows.csv", table(60, user=pa.array(["same"] * 60)))
    (tmp_path / "c.toml").write_text(CONFIG)
    assert nearline("train", tmp_path / "c.toml", "--model", tmp_path / "m")[0] == 0


def test_a_place_that_cannot_be_written_is_found_before_the_work_is_done(trained_folder, tmp_path, nearline):
    config, model, rows = (trained_folder / name for name in ("config.toml", "a.model", "new.parquet"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    nowhere = tmp_path / "nowhere" / "file.csv"
    cases = [
        (2, ["train", config, "--report", nowhere], "--report: expected a file in a folder that exists"),
        (2, ["train", config, "--report", tmp_path], "--report: expected a file"),
        (1, ["train", config, "--model", tmp_path / "other"], "found 'mine.txt'"),
        (1, ["train", config, "--model", rows], "expected a new or empty folder"),
        (1, ["refit", model, rows, "--out", tmp_path / "other"], "found 'mine.txt'"),
        (2, ["score", model, rows, "--out", nowhere], "--out: expected a file in a folder that exists"),
        (2, ["score", model, rows, "--out", tmp_path / "s.txt"], "ends in .parquet or .csv"),
        (2, ["evaluate", model, rows, "--report", nowhere], "--report: expected a file in a folder"),
        (2, ["demo", "--out", rows], "--out: expected a folder"),
    ]
    for expected, arguments, message in cases:
        code, out, err = nearline(*arguments)
        assert (code, out) == (expected, ""), arguments
        assert err.startswith("error: ")
        assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]


def test_what_is_no_model_or_no_rows_or_no_entity_is_named(trained_folder, tmp_path, nearline):
    model, rows = trained_folder / "a.model", trained_folder / "new.parquet"
    no_film = write(tmp_path / "rows.parquet", table(20).drop(["film"]))
    cases = [
        (1, ["score", tmp_path / "none", rows], "expected a folder that holds a model"),
        (2, ["score", model, tmp_path / "none.csv"], "expected a file or directory of rows, found none"),
        (1, ["evaluate", model, no_film, "--report", tmp_path / "e.html"], "column 'film' (entities.film)"),
        (
            1,
            ["inspect", model, "nobody"],
            "no entity 'nobody' in per-user (12 entities), per-film (7 entities)",
        ),
        (1, ["inspect", model, "u1", "--effect", "per-usr"], "no random effect 'per-usr'"),
        (2, ["train", tmp_path / "none.toml"], "expected a configuration file, found none"),
    ]
    for expected, arguments, message in cases:
        code, out, err = nearline(*arguments)
        assert (code, out) == (expected, ""), arguments
        assert err.startswith("error: ")
        assert message in err


def test_without_what_draws_reports_the_model_is_trained_all_the_same(trained_folder, tmp_path):
    lacking = "import sys; sys.modules['jinja2'] = None; from nearline.cli.start import main; main()"
    command = [
        sys.executable,
        "-c",
        lacking,
        "train",
        str(trained_folder / "config.toml"),
        "--model",
        str(tmp_path / "m"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert "warning: no report: the HTML report needs an optional part" in done.stderr
    assert (tmp_path / "m" / "model.json").is_file()
