"""`nearline dashboard`: from the configuration to a page, and to a clean end."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from command_line import CONFIG

NEARLINE = [sys.executable, "-c", "from nearline.cli.start import main; main()"]


@pytest.fixture
def shop(tmp_path, trained_folder, nearline):
    """A deployment with a live generation; its configuration."""
    (tmp_path / "shop.toml").write_text(CONFIG + '\n[stream]\nfolder = "stream"\n')
    assert nearline("publish", trained_folder / "a.model", tmp_path / "shop.toml")[0] == 0
    return tmp_path / "shop.toml"


def started(config, *options):
    """A dashboard in a process of its own, and its address."""
    process = subprocess.Popen(  # noqa: S603 - our own command
        [*NEARLINE, "dashboard", str(config), "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    line = process.stderr.readline()
    assert line.startswith("dashboard: http://127.0.0.1:"), line
    return process, line.split()[1]


def ended(process, number):
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    return process.returncode


def test_it_shows_a_deployment_until_it_is_told_to_stop(shop, nearline):
    pytest.importorskip("uvicorn", reason="needs nearline[serve]")
    process, address = started(shop)
    try:
        with urllib.request.urlopen(address + "overview.json") as reply:  # noqa: S310 - our own page
            numbers = {one["id"]: one["text"] for one in json.load(reply)["numbers"]}
        with urllib.request.urlopen(address + "entity?name=u1") as reply:  # noqa: S310 - our own page
            assert "rows learned" in reply.read().decode()
        assert nearline("worker", shop, "--once")[0] == 0  # a worker runs beside it
    finally:
        code = ended(process, signal.SIGTERM)
    assert (numbers["generation"], numbers["lag-events"], code) == ("1", "0", 0)


def test_an_interrupt_ends_it_and_a_token_keeps_others_out(shop):
    pytest.importorskip("uvicorn", reason="needs nearline[serve]")
    (shop.parent / "token").write_text("a-token\n")
    shop.write_text(shop.read_text() + '\n[serve]\ntoken_file = "token"\n')
    process, address = started(shop)
    try:
        with pytest.raises(urllib.error.HTTPError, match="401") as refused:
            urllib.request.urlopen(address)  # noqa: S310 - our own page
        refused.value.close()
        asking = urllib.request.Request(address, headers={"authorization": "Bearer a-token"})  # noqa: S310
        with urllib.request.urlopen(asking) as reply:  # noqa: S310 - our own page
            assert reply.status == 200
    finally:
        assert ended(process, signal.SIGINT) == 130


def test_it_does_not_open_to_other_machines_without_a_token(shop, nearline):
    pytest.importorskip("uvicorn", reason="needs nearline[serve]")
    code, _, said = nearline("dashboard", shop, "--host", "0.0.0.0")  # noqa: S104 - it is refused
    assert code == 2
    assert "serve.token_file" in said


def test_a_configuration_without_a_deployment_is_refused(tmp_path, nearline):
    pytest.importorskip("uvicorn", reason="needs nearline[serve]")
    (tmp_path / "none.toml").write_text(CONFIG)
    code, _, said = nearline("dashboard", tmp_path / "none.toml")
    assert code == 1
    assert "no deployment there" in said
    assert not (tmp_path / "stream").exists()


def test_without_the_extra_it_says_what_to_install(shop, nearline, monkeypatch):
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    for name in ("nearline.dashboard.alone", "nearline.dashboard.http"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    code, _, said = nearline("dashboard", shop)
    assert code == 1
    assert "pip install 'nearline[serve]'" in said
