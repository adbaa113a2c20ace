"""Documents that cannot rot: what the code has is in them, and what they show works."""

import json
import re
import signal
import subprocess
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import click
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import typer
from pydantic import BaseModel

import nearline as nl
from nearline import datasets, errors
from nearline.cli.main import app, run
from nearline.config import Config, parse_config
from nearline.datasets.generated import generate
from nearline.evaluate.catalogue import METRICS
from nearline.events import read_event
from nearline.observe import metrics as running
from nearline.posterior import Status

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda page: page.relative_to(ROOT).as_posix(),
)


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every command by its full name; a group is one, and so is each command in it."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        yield prefix + name, command
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")


COMMANDS = dict(commands(typer.main.get_command(app)))


FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [content for kind, content in found if kind == language]


def keys(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every key of a configuration, as (path of its table, name)."""
    for name, field in model.model_fields.items():
        yield path, name
        for section in sections(field.annotation):
            yield from keys(section, (*path, name))


def sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections(part)]


def section_of(page: str, heading: str) -> str:
    """The text under one heading, up to the next."""
    found = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no heading {heading!r}"
    return found.group(1)


TABLES = {
    (): "Top level",
    ("data",): "`[data]`",
    ("fixed_effect",): "`[fixed_effect]`",
    ("random_effects",): "`[random_effects.NAME]`",
    ("training",): "`[training]`",
    ("evaluation",): "`[evaluation]`",
    ("evaluation", "references"): "`[[evaluation.references]]`",
    ("replay",): "`[replay]`",
    ("stream",): "`[stream]`",
    ("stream", "minibatch"): "`[stream.minibatch]`",
    ("stream", "drift"): "`[stream.drift]`",
    ("serve",): "`[serve]`",
    ("serve", "policy"): "`[serve.policy]`",
    ("serve", "limits"): "`[serve.limits]`",
}


@pytest.mark.parametrize(("path", "name"), list(keys(Config)), ids=str)
def test_every_configuration_key_is_documented_in_its_table(path: tuple[str, ...], name: str) -> None:
    assert f"\n| `{name}` |" in section_of(text("docs/configuration.md"), TABLES[path])


def test_no_configuration_key_is_documented_that_does_not_exist() -> None:
    page = text("docs/configuration.md")
    for path, heading in TABLES.items():
        documented = set(re.findall(r"^\| `(\w+)` \|", section_of(page, heading), re.MULTILINE))
        assert documented == {name for at, name in keys(Config) if at == path}, heading


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_and_option_is_documented(command: str) -> None:
    section = section_of(text("docs/command-line.md"), f"`nearline {command}`")
    for parameter in COMMANDS[command].params:
        if isinstance(parameter, click.Argument):
            assert (parameter.metavar or parameter.name.upper()) in section
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert option == "--help" or f"| `{option}" in section


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_no_option_is_documented_that_does_not_exist(command: str) -> None:
    section = section_of(text("docs/command-line.md"), f"`nearline {command}`")
    documented = set(re.findall(r"^\| `(--[\w-]+)", section, re.MULTILINE))
    assert documented <= {option for parameter in COMMANDS[command].params for option in parameter.opts}


def test_every_error_and_status_is_documented() -> None:
    page = text("docs/errors.md")
    named = [name for name, value in vars(errors).items() if isinstance(value, type) and name != "final"]
    for name in [*(n for n in named if n.endswith("Error")), *(status.name for status in Status)]:
        assert f"\n| `{name}` |" in page


def test_every_public_name_is_documented() -> None:
    page = text("docs/python.md")
    assert [name for name in nl.__all__ if f"`{name}`" not in page] == []


def test_every_metric_is_documented() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", text("docs/metrics.md"), re.MULTILINE)) == set(METRICS)


def test_every_metric_of_a_running_system_is_documented_as_it_is_declared() -> None:
    assert running.table() in text("docs/monitoring.md")


def test_every_data_set_is_documented() -> None:
    section = section_of(text("docs/configuration.md"), "Public data sets")
    assert [name for name in datasets.names() if f"`{name}`" not in section] == []


def test_every_decision_is_listed_and_in_the_navigation() -> None:
    index, navigation = text("docs/decisions/index.md"), text("mkdocs.yml")
    for page in sorted((DOCS / "decisions").glob("[0-9]*.md")):
        assert f"({page.name})" in index
        assert f"decisions/{page.name}" in navigation


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there.read_text(encoding="utf-8")), target


def anchors(page: str) -> set[str]:
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in HEADING.findall(page)
    }


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "toml")], ids=page_id)
def test_every_configuration_shown_is_valid(page: Path) -> None:
    for block in blocks(page, "toml"):
        content = tomllib.loads(block)
        if "data" not in content:  # a part: complete it
            content |= {"data": {"path": "clicks.csv", "response": "clicked"}}
        parse_config(content)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=page_id)
def test_every_python_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other, in one namespace, beside a small clicks.csv."""
    monkeypatch.chdir(tmp_path)
    table = generate(1500, seed=1).table
    pyarrow.csv.write_csv(table, "clicks.csv")
    if page.name == "saved-models.md":
        train_small_model()
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in blocks(page, "python"):
        exec(compile(block, page_id(page), "exec"), namespace)  # noqa: S102 - that is the test


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "json")], ids=page_id)
def test_every_event_shown_comes_in(page: Path) -> None:
    for block in blocks(page, "json"):
        rest = block.strip()
        while rest:
            shown, end = json.JSONDecoder().raw_decode(rest)
            read_event(json.dumps(shown))
            rest = rest[end:].strip()


def train_small_model() -> None:
    started = blocks(DOCS / "getting-started.md", "python")
    namespace: dict[str, Any] = {}
    for block in started[: next(i for i, block in enumerate(started) if "save_model(" in block) + 1]:
        exec(compile(block, "getting-started.md", "exec"), namespace)  # noqa: S102


def test_the_commands_of_getting_started_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = DOCS / "getting-started.md"
    table = generate(1500, seed=1).table
    for name in ("clicks.csv", "later.csv"):
        pyarrow.csv.write_csv(table, name)
    pyarrow.csv.write_csv(table.drop_columns(["clicked"]), "new.csv")
    Path("clicks.toml").write_text(blocks(page, "toml")[0], encoding="utf-8")
    trained, _, deployed = page.read_text(encoding="utf-8").partition("## Keep learning")
    commands = commands_of(trained)
    assert [command.split()[0] for command in commands] == ["train", "inspect", "score", "evaluate", "refit"]
    for command in commands:
        assert run(command.split()) == 0, command
    written = {path.name for path in tmp_path.iterdir()}
    assert {"clicks.model", "clicks.html", "scores.parquet", "evaluation.html"} <= written
    section = section_of(text("docs/command-line.md"), "`nearline score`")
    for name in pq.read_schema("scores.parquet").names:
        assert f"`{re.sub('(?<=contribution_)per-.*', 'NAME', name)}`" in section
    check_saved_model(Path("clicks.model"))
    check_deployment(deployed)


def commands_of(part: str) -> list[str]:
    return re.findall(r"^    nearline ([^#\n]+)", part, re.MULTILINE)


def check_deployment(part: str) -> None:
    """What is asked of the service is answered, and what is said of it is learned."""
    with Path("clicks.toml").open("a", encoding="utf-8") as config:
        config.write(re.search(r"```toml\n(.*?)```", part, re.DOTALL)[1].replace("10m", "200ms"))
    publish, worker, serve, inspect, dashboard = commands_of(part)
    rank, feedback = re.findall(
        r"^    curl -s localhost:8080(\S+) -d '(.*?)'$", part, re.MULTILINE | re.DOTALL
    )
    assert run(publish.split()) == 0
    with started(worker) as learning, started(f"{serve} --port 0") as serving:
        address = next(found[1] for line in serving.stderr if (found := re.search(r"(http://\S+)", line)))
        known = asked(address, "/v1/score", rank[1])["scored"]
        ranked = asked(address, *rank)["ranked"]
        assert {one["id"] for one in ranked} == {one["id"] for one in known}
        said = feedback[1].replace("THE ID IN THE REPLY", ranked[0]["impression"])
        assert asked(address, feedback[0], said) == {"accepted": 1}
        limit = time.monotonic() + 20
        while asked(address, "/v1/score", rank[1])["scored"][0]["versions"] == known[0]["versions"]:
            assert time.monotonic() < limit
        learning.send_signal(signal.SIGTERM)
        assert learning.wait(20) == 0
    assert run(inspect.split()) == 0
    assert run([*dashboard.split(), "--help"]) == 0


@contextmanager
def started(command: str) -> Iterator["subprocess.Popen[str]"]:
    arguments = [sys.executable, "-c", "from nearline.cli.start import main; main()", *command.split()]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            yield process
        finally:
            process.terminate()


def asked(address: str, path: str, body: str) -> dict[str, Any]:
    with urllib.request.urlopen(address + path, body.encode(), timeout=20) as reply:  # noqa: S310 - the service
        found: dict[str, Any] = json.load(reply)
    return found


def check_saved_model(folder: Path) -> None:
    """Every file and field of a saved model is in its documentation."""
    page = text("docs/saved-models.md")
    for file in sorted(folder.glob("*.parquet")):
        kind = re.sub(r"\d+", "N", file.name)
        section = section_of(page, f"`{kind}`")
        assert [name for name in pq.read_schema(file).names if f"`{name}`" not in section] == []
    section = section_of(page, "`model.json`")
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    names = [name for name in description if name not in {"fixed", "random"}]
    names += [f"fixed.{name}" for name in description["fixed"]]
    names += [f"random[].{name}" for name in description["random"][0]]
    assert [name for name in names if f"| `{name}` |" not in section] == []


@pytest.mark.parametrize(
    "command", [[], *(name.split() for name in sorted(COMMANDS))], ids=lambda c: " ".join(c) or "root"
)
def test_help_works(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--help"]) == 0
    assert "Usage: " in capsys.readouterr().out
