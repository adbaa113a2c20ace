"""`nearline publish`, `worker` and `log dead`: a deployment from the first model to a fresh belief."""

import json
import os
import pty
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from command_line import CONFIG

from nearline.events.cloudevents import write_event
from nearline.events.embedded import EmbeddedLog
from nearline.events.impression import Feedback, Impression, Tick
from nearline.observe.metrics import OF_WORKERS
from nearline.store.generations import Status
from nearline.stream.roles import Role

NEARLINE = [sys.executable, "-c", "from nearline.cli.start import main; main()"]
BEGIN_MS = 1_760_000_000_000
STREAM = """
[stream]
folder = "shop"
partitions = 2
window = "1m"
history = 5
tick_after = "none"
"""


def impressions(count):
    """Impressions a second apart, 50 of each user from u1 on, and feedback to every second one."""
    for i in range(count):
        at = BEGIN_MS + i * 1_000
        yield Impression(
            f"i{i}",
            at,
            {"user": f"u{1 + i // 50}", "film": f"f{i % 101}"},
            {"b": {"x": 1.0, "genre=g1": 1.0}},
        )
        if i % 2:
            yield Feedback(f"i{i}", at + 500, 1.0, id=f"a{i}")


def append(nearline, folder, events):
    file = folder / "events.jsonl"
    file.write_bytes(b"\n".join(write_event(event) for event in events))
    assert nearline("log", "append", folder / "shop", file)[0] == 0


@pytest.fixture
def folder(tmp_path, trained_folder):
    """A configuration with a stream, and a model trained by it."""
    (tmp_path / "c.toml").write_text(CONFIG + STREAM)
    return tmp_path


@pytest.fixture
def shop(folder, nearline, trained_folder):
    """A deployment with a live generation; the configuration and the events are beside it."""
    assert nearline("publish", trained_folder / "a.model", folder / "c.toml")[0] == 0
    return folder


def test_events_change_a_belief(nearline, nearline_json, shop, trained_folder):
    before = nearline_json("inspect", shop / "shop", "u1", "--effect", "per-user")["effects"][0]
    append(nearline, shop, [*impressions(10), Tick(BEGIN_MS + 120_000)])
    code, out, _ = nearline("worker", shop / "c.toml", "--once")
    assert code == 0
    assert re.search(r"generation 1 · lag 0 events · .*learned 15 · duplicate 0 · late 0 · dead 0", out)
    after = nearline_json("inspect", shop / "shop", "u1", "--effect", "per-user", "--history")["effects"][0]
    assert after["rows_learned"] == before["rows_learned"] + 10
    assert after["information_nats"] > before["information_nats"]
    assert after["coefficients"] != before["coefficients"]
    assert [row["version"] for row in after["versions"]] == [1, 2]


def test_what_was_learned_is_not_learned_again(nearline, nearline_json, shop):
    append(nearline, shop, [*impressions(4), *impressions(4), Tick(BEGIN_MS + 120_000)])
    first = nearline_json("worker", shop / "c.toml", "--once")
    again = nearline_json("worker", shop / "c.toml", "--once")
    assert first["stopped"] == "idle"
    assert first["events"]["learned"] == first["events"]["duplicate"] == 6
    assert (again["events"], again["rows"]) == (first["events"], first["rows"])
    assert (again["turns"], again["freshness_seconds"]) == (0, None)


def test_two_workers_share_the_partitions(nearline, nearline_json, shop):
    append(nearline, shop, [*impressions(6), Tick(BEGIN_MS + 120_000)])
    joins = nearline_json("worker", shop / "c.toml", "--once", "--of", 2)
    learns = nearline_json("worker", shop / "c.toml", "--once", "--index", 1, "--of", 2)
    assert joins["events"]["learned"] == 9
    assert learns["events"] is None
    assert joins["rows"]["learned"] + learns["rows"]["learned"] == 12
    assert "rows/s" in nearline("worker", shop / "c.toml", "--once", "--index", 1, "--of", 2)[1]


def test_a_next_model_is_a_candidate_until_it_is_switched_to(nearline_json, nearline, shop, trained_folder):
    append(nearline, shop, [*impressions(6), Tick(BEGIN_MS + 120_000)])
    nearline("worker", shop / "c.toml", "--once")
    how = ("--no-switch", "--after-rows", "--as-of", "2026-01-31T12:00:00Z")
    second = nearline_json("publish", trained_folder / "a.model", shop / "shop", *how)
    assert (second["generation"], second["live"], second["as_of_ms"]) == (2, 1, 1_769_860_800_000)
    assert sum(second["positions"]) > 0
    listed = nearline_json("generations", "list", shop / "shop")["generations"]
    assert [row["status"] for row in listed] == [Status.LIVE, Status.CANDIDATE]
    nearline("generations", "switch", shop / "shop", 2)
    assert nearline_json("worker", shop / "c.toml", "--once")["rows"]["rows"] == 0
    third = nearline_json("publish", trained_folder / "a.model", shop / "c.toml")
    assert (third["live"], third["positions"]) == (3, [0, 0])
    assert nearline_json("worker", shop / "c.toml", "--once")["rows"]["learned"] == 12


def test_a_folder_is_made_as_the_model_was_trained(nearline_json, tmp_path, trained_folder):
    published = nearline_json("publish", trained_folder / "a.model", tmp_path / "new")
    assert (published["generation"], len(published["positions"])) == (1, 4)
    assert (tmp_path / "new" / "store").is_dir()


def test_dead_letters_are_shown_with_their_reasons(nearline, nearline_json, shop):
    assert nearline("log", "dead", shop / "shop")[1].startswith("no dead letters")
    bad = Impression("bad", BEGIN_MS, {"user": "u1"}, {"b": {"x": 1.0}})
    append(nearline, shop, [bad, Feedback("bad", BEGIN_MS + 1, 7.0), Feedback("nobody", BEGIN_MS, 1.0)])
    with EmbeddedLog(shop / "shop" / "log") as log:
        log.append([b"junk"])
    append(nearline, shop, [Tick(BEGIN_MS + 240_000)])
    assert nearline_json("worker", shop / "c.toml", "--once")["events"]["dead"] == 2
    junk, orphan, unlearned = sorted(
        nearline_json("log", "dead", shop / "shop")["dead_letters"],
        key=lambda letter: (letter["from"], -letter["position"]),
    )
    assert (junk["from"], junk["event"], junk["record_hex"]) == ("log", None, b"junk".hex())
    assert json.loads(orphan["event"])["data"]["impression"] == "nobody"
    assert unlearned["from"].startswith("partition ")
    assert unlearned["reason"].startswith("per-user: ")
    assert json.loads(unlearned["event"])["id"] == "bad"
    assert "per-user: " in nearline("log", "dead", shop / "shop")[1]


@pytest.mark.parametrize(
    ("toml", "arguments", "code", "message"),
    [
        (
            CONFIG + '[stream]\nfolder = "elsewhere"',
            (),
            1,
            "elsewhere: no deployment there; begin one: nearline",
        ),
        (
            CONFIG + STREAM.replace('"1m"', '"ten"'),
            (),
            2,
            "stream.window: expected a duration such as '10m', got",
        ),
        (
            CONFIG + STREAM.replace("partitions = 2", "partitions = 3"),
            (),
            1,
            "expected a store of 3 partitions",
        ),
        (CONFIG + STREAM, ("--index", "2", "--of", "2"), 2, "expected an index from 0 to 1, got 2"),
        ("[stream", (), 2, "cannot be read as TOML"),
        (
            CONFIG.replace('entity = "film"', 'entity = "film"\nforgetting = "choose"') + STREAM,
            (),
            2,
            "random_effects.per-film.forgetting: expected 'none' or a duration",
        ),
        (
            CONFIG.replace("effects.per-film]", "effects.per-movie]\nforgetting = '1d'") + STREAM,
            (),
            2,
            "random_effects.per-movie.forgetting: the live generation has no such effect",
        ),
    ],
)
def test_mistakes_of_a_worker_are_said(nearline, shop, toml, arguments, code, message):
    (shop / "wrong.toml").write_text(toml)
    found, out, err = nearline("worker", shop / "wrong.toml", "--once", *arguments)
    assert (found, out) == (code, "")
    assert err.startswith("error: ")
    assert message in err
    assert not (shop / "elsewhere").exists()


def test_a_worker_needs_a_live_generation_and_its_role(nearline, folder, trained_folder):
    nearline("publish", trained_folder / "a.model", folder / "c.toml", "--no-switch")
    assert "no generation is live yet" in nearline("worker", folder / "c.toml", "--once")[2]
    nearline("generations", "switch", folder / "shop", 1)
    role = Role(folder / "shop" / "roles", "join")
    code, _, err = nearline("worker", folder / "c.toml", "--once")
    role.close()
    assert (code, "has the role 'join' already" in err) == (2, True)
    assert nearline("worker", folder / "c.toml", "--once")[0] == 0


def test_early_labels_are_warned_of(nearline, shop):
    (shop / "c.toml").write_text(CONFIG + STREAM + 'learn_at = "feedback"\n')
    code, _, err = nearline("worker", shop / "c.toml", "--once")
    assert (code, err.startswith("warning: ")) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.model", "c.toml"), "nowhere.model"),
        (("{model}", "nowhere.toml"), "nowhere.toml: expected a configuration file, found none"),
        (("{model}", "c.toml", "--as-of", "noon"), "--as-of: expected a time such as"),
    ],
)
def test_mistakes_of_publishing_leave_no_deployment(
    nearline, folder, trained_folder, monkeypatch, arguments, message
):
    monkeypatch.chdir(folder)
    given = [part.format(model=trained_folder / "a.model") for part in arguments]
    code, out, err = nearline("publish", *given)
    assert code in {1, 2}
    assert out == ""
    assert message in err
    assert not (folder / "shop").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_work_between_turns(shop, nearline, nearline_json, number, code):
    append(nearline, shop, [*impressions(3_000), Tick(BEGIN_MS + 10_000_000)])
    (shop / "slow.toml").write_text(
        (shop / "c.toml").read_text() + "at_once = 1\n"
    )  # a commit for each event
    command = [*NEARLINE, "worker", str(shop / "slow.toml"), "--json", "--metrics-port", "0"]
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        address = process.stderr.readline().split()[1]
        shown = [json.loads(process.stdout.readline())]
        with urllib.request.urlopen(address) as answer:  # noqa: S310 - http, of our own making
            page = answer.read().decode()
        process.send_signal(number)
        shown += [json.loads(line) for line in process.stdout]
        said = process.stderr.read()
        assert process.wait(timeout=60) == code
    assert said == ("" if code == 0 else "error: interrupted\n")
    assert shown[-1]["stopped"] == signal.Signals(number).name
    assert shown[-1]["lag_events"] > 0  # it was not done yet
    assert shown[-1]["joined_to"] > 0
    names = {name.removesuffix("_sum").removesuffix("_count") for name in re.findall(r"^(\w+)", page, re.M)}
    assert {metric.name for metric in OF_WORKERS} - names <= {"nearline_freshness_seconds"}
    rest = nearline_json("worker", shop / "c.toml", "--once")
    assert rest["joined_to"] == shown[-1]["joined_to"] + shown[-1]["lag_events"]
    assert rest["rows"]["learned"] == 6_000
    assert rest["events"]["learned"] == 4_500


@pytest.mark.parametrize("moment", ["msgspec", "numpy", "nearline.cli.worker"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_while_it_starts_ends_a_worker_in_order(shop, nearline, nearline_json, moment, number, code):
    append(nearline, shop, [*impressions(4), Tick(BEGIN_MS + 120_000)])
    command = [NEARLINE[0], "-X", "importtime", *NEARLINE[1:], "worker", str(shop / "c.toml"), "--json"]
    with subprocess.Popen(  # noqa: S603
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:  # what has been imported, as it happens
            if line.split("|")[-1].strip() == moment:
                break
        process.send_signal(number)
        out, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in said
    assert json.loads(out.splitlines()[-1])["stopped"] == signal.Signals(number).name
    assert nearline_json("worker", shop / "c.toml", "--once")["rows"]["learned"] == 8


@pytest.mark.parametrize("room", [0, 200_000])
def test_a_full_disk_is_said_and_nothing_is_lost(shop, nearline, nearline_json, room):
    """No file may grow beyond what the log has and some room: what the system says then is what a quota says."""
    append(nearline, shop, [*impressions(1_500), Tick(BEGIN_MS + 10_000_000)])
    (shop / "slow.toml").write_text((shop / "c.toml").read_text() + "at_once = 200\n")
    largest = max(path.stat().st_size for path in (shop / "shop" / "store").rglob("*.mdb"))
    done = subprocess.run(  # noqa: S603
        [*NEARLINE, "worker", str(shop / "slow.toml"), "--once", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest + room, largest + room)),
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(
        r"error: .*; what was committed before is not affected. .* full, .*: make room for it, then start again\n",
        done.stderr,
    )
    rest = nearline_json("worker", shop / "c.toml", "--once")
    assert rest["events"]["learned"] == 2_250
    assert rest["rows"]["learned"] == 3_000


def test_a_terminal_shows_a_live_line(shop, nearline):
    append(nearline, shop, impressions(4))
    terminal, screen = pty.openpty()
    command = [*NEARLINE, "worker", str(shop / "c.toml")]
    with subprocess.Popen(command, stderr=screen, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        os.close(screen)
        seen, last = "", time.monotonic() + 60
        while "lag 0 events" not in seen:
            ready, _, _ = select.select([terminal], [], [], max(0.0, last - time.monotonic()))
            assert ready, f"no live line within a minute, only {seen!r}"
            seen += os.read(terminal, 4096).decode(errors="replace")
        process.terminate()
        out = process.stdout.read()
        assert process.wait(timeout=60) == 0
    os.close(terminal)
    assert out.startswith("generation 1 · lag 0 events")


def test_a_port_that_is_taken_is_said(shop, nearline):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, _, err = nearline("worker", shop / "c.toml", "--once", "--metrics-port", port)
    assert (code, f"127.0.0.1:{port} cannot be had" in err) == (2, True)
