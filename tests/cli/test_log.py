"""`nearline log`: events in, out, shown and trimmed."""

import io
import json

import pytest

from nearline.events.cloudevents import read_event, write_event
from nearline.events.embedded import EmbeddedLog
from nearline.events.impression import Feedback, Impression, Tick
from nearline.events.wire import encode_event

EVENTS = [
    Impression("i1", 1_000, {"user": "Zoë"}, {"c": {"age": 0.5}}, {"per-user": (0.25, 2.0)}),
    Feedback("i1", 2_000, 1.0, 1.0, "f1"),
    Tick(3_000),
]


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(write_event(event) for event in EVENTS))
    return path


@pytest.fixture
def stream(tmp_path, file, nearline):
    assert nearline("log", "append", tmp_path / "stream", file)[0] == 0
    return tmp_path / "stream"


def test_events_go_in_and_come_out(nearline, nearline_json, tmp_path, file):
    folder = tmp_path / "stream"
    found = nearline_json("log", "append", folder, file, "--batch", "2")
    assert found == {"log": str(folder / "log"), "appended": 3, "refused": 0, "end": 3}
    code, out, err = nearline("log", "tail", folder)
    assert (code, err) == (0, "")
    assert [read_event(line) for line in out.splitlines()] == EVENTS
    assert [json.loads(line)["position"] for line in out.splitlines()] == [1, 2, 3]


def test_what_comes_out_goes_in_again(nearline, stream, tmp_path, monkeypatch):
    out = nearline("log", "tail", stream, "--after", "0")[1]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(out.encode())))
    assert nearline("log", "append", tmp_path / "other", "-")[0] == 0
    with EmbeddedLog(stream / "log") as log, EmbeddedLog(tmp_path / "other" / "log") as other:
        assert log.read(0, 9).records == other.read(0, 9).records


def test_tail_shows_what_is_asked_for(nearline, stream):
    out = nearline("log", "tail", stream, "--after", "1", "--limit", "1")[1]
    assert [read_event(line) for line in out.splitlines()] == [EVENTS[1]]
    assert nearline("log", "tail", stream, "--after", "3") == (0, "", "")
    assert "error: after: expected at most 3" in nearline("log", "tail", stream, "--after", "4")[2]


def test_lines_that_are_no_events_are_refused_and_said_and_the_others_go_in(nearline, tmp_path, file):
    bad = write_event(EVENTS[0]).replace(b"0.5", b'"half"')
    late = write_event(Tick(4_000_000_000_000))
    file.write_bytes(b"\n".join([bad, write_event(EVENTS[1]), b"", late, write_event(EVENTS[2])]))
    code, out, err = nearline("log", "append", tmp_path / "stream", file)
    assert code == 1
    assert "2 events appended, 2 refused" in out
    first, second = err.splitlines()
    assert first == 'line 1: data.features.c.age: expected a finite number, got "half"'
    assert second.startswith("line 4: time: expected at most 20")
    assert nearline("log", "append", tmp_path / "stream", file, "--ahead", "1e9")[1].startswith("3 events")


def test_show_says_how_much_there_is(nearline, nearline_json, stream):
    found = nearline_json("log", "show", stream)
    (partition,) = found["partitions"]
    assert {**partition, "bytes": 0} == {
        "partition": 0,
        "begin": 1,
        "end": 3,
        "events": 3,
        "bytes": 0,
        "oldest_ms": 1_000,
        "newest_ms": 3_000,
    }
    assert partition["bytes"] == sum(len(encode_event(event)) for event in EVENTS)
    assert found["disk_bytes"] > 0
    assert "1970-01-01 00:00:03" in nearline("log", "show", stream)[1]


def test_trim_removes_what_nothing_keeps(nearline_json, nearline, stream, file):
    nearline("log", "append", stream, file)
    assert nearline_json("log", "trim", stream, "--up-to", "6", "--older", "1")["removed"] == 0
    assert nearline_json("log", "trim", stream, "--up-to", "6", "--keep-bytes", "1000000")["removed"] == 0
    found = nearline_json("log", "trim", stream, "--up-to", "4")
    assert found == {"log": str(stream / "log"), "removed": 3, "begin": 4, "end": 6}
    assert nearline_json("log", "show", stream)["partitions"][0]["events"] == 3
    assert nearline_json("log", "trim", stream, "--up-to", "6", "--older", "0")["removed"] in {0, 3}


def test_a_record_that_cannot_be_read_is_said_in_its_place(nearline, nearline_json, stream):
    with EmbeddedLog(stream / "log") as log:
        log.append([b"junk", encode_event(Tick(5_000))])
        log.append([b"junk"])
    code, out, err = nearline("log", "tail", stream)
    assert code == 0
    assert len(out.splitlines()) == 4
    assert [line.partition(": record: ")[0] for line in err.splitlines()] == ["position 4", "position 6"]
    assert nearline_json("log", "show", stream)["partitions"][0]["newest_ms"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["log"], 2, "error: Missing command"),
        (["log", "bogus"], 2, "error: No such command 'bogus'"),
        (["log", "tail", "nowhere"], 1, "no event log there"),
        (["log", "show", "nowhere"], 1, "no event log there"),
        (["log", "trim", "nowhere", "--up-to", "1"], 1, "no event log there"),
        (["log", "trim", "nowhere"], 2, "--up-to"),
        (["log", "append", "nowhere", "missing.jsonl"], 1, "missing.jsonl: cannot be read"),
        (["log", "append", "nowhere", "x", "--batch", "0"], 2, "--batch"),
    ],
)
def test_mistakes_are_said_and_leave_nothing_behind(
    nearline, tmp_path, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    found, out, err = nearline(*arguments)
    assert (found, out) == (code, "")
    assert err.startswith("error: ")
    assert message in err
    assert not (tmp_path / "nowhere").exists()
