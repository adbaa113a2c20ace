"""Workers are killed while they learn: what is believed in the end is, to the bit, what it would have been.

`make soak` kills 200 times over 50,000 events; the suite does the same in small.
"""

import os
from statistics import median

import pytest
from fated_events import fated_events, fates
from firing import WORKERS, Doing, Outcomes, under_fire, uninterrupted

LONG = os.environ.get("NEARLINE_SOAK") == "1"
EVENTS, KILLS = (50_000, 200) if LONG else (2_500, 6)


def require_sums(outcomes: Outcomes) -> None:
    """Every event ends as it was drawn to end, and every row is in one place."""
    joined, learned = outcomes.joined, outcomes.learned
    expected = fates(fated_events(EVENTS))
    found = {name: getattr(joined, name) for name in ("learned", "duplicate", "late", "dead")}
    assert found == expected
    assert sum(found.values()) == joined.received == EVENTS
    assert min(found.values()) > 0
    assert joined.learned > 0.9 * EVENTS
    assert joined.waiting == joined.unanswered == 0
    assert learned.rows == learned.learned + learned.taken_back + learned.set_aside + learned.waiting
    assert learned.learned > learned.taken_back > 0 == learned.set_aside


def told(outcomes: Outcomes) -> str:
    kills = ", ".join(f"{doing.name.lower()} {count}" for doing, count in sorted(outcomes.killed.items()))
    return f"{outcomes.killed.total()} kills ({kills}); started in {median(outcomes.start_s):.3f} s"


def test_kills_change_no_bit(tmp_path, capsys):
    found = under_fire(tmp_path / "fire", EVENTS, KILLS)
    expected = uninterrupted(tmp_path / "calm", tmp_path / "fire" / "log")
    with capsys.disabled():
        if LONG:
            print(f"\n{told(found)}; {found.reads} reads\n{found.joined}\n{found.learned}")  # noqa: T201
    assert found.killed.total() == KILLS
    assert Doing.STARTING not in found.killed
    assert not LONG or {Doing.JOINING, Doing.LEARNING, Doing.COMMITTING} <= set(found.killed)
    require_sums(found)
    assert found.joined == expected.joined
    assert found.learned == expected.learned
    assert found.known == expected.known
    assert found.reads > 0


@pytest.mark.parametrize(
    "at_random", [False, pytest.param(True, marks=pytest.mark.skipif(not LONG, reason="soak"))]
)
def test_a_commit_in_two_halves_does_not_pass(tmp_path, capsys, at_random):
    """The control: were position and records committed apart, the comparison above would find it."""
    kills, split = (KILLS // 4, 0) if at_random else (0, 5)
    found = under_fire(tmp_path / "fire", EVENTS, kills, split=split)
    expected = uninterrupted(tmp_path / "calm", tmp_path / "fire" / "log")
    wrong = sum(found.known.get(name) != known for name, known in expected.known.items())
    with capsys.disabled():
        if LONG:
            print(f"\ncontrol: {told(found)}; {wrong} of {len(expected.known)} beliefs are wrong")  # noqa: T201
    assert found.killed.total() == (kills or WORKERS)
    assert wrong > 0
