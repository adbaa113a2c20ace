"""Workers are killed while they learn: what is believed in the end is, to the bit, what it would have been.

`make soak` kills 200 times over 50,000 events; the suite does the same in small.
"""

import os

import pytest
from firing import Outcomes, under_fire, uninterrupted

LONG = os.environ.get("NEARLINE_SOAK") == "1"
EVENTS, KILLS = (50_000, 200) if LONG else (2_500, 6)


def require_sums(outcomes: Outcomes) -> None:
    joined, learned = outcomes.joined, outcomes.learned
    assert joined.waiting == learned.waiting == 0 or learned.waiting > 0
    parts = (joined.learned, joined.duplicate, joined.late, joined.dead, joined.unanswered, joined.waiting)
    assert joined.received == EVENTS == sum(parts)
    assert learned.rows == learned.learned + learned.taken_back + learned.set_aside + learned.waiting


def test_kills_change_no_bit(tmp_path, capsys):
    found = under_fire(tmp_path / "fire", EVENTS, KILLS)
    expected = uninterrupted(tmp_path / "calm", tmp_path / "fire")
    with capsys.disabled():
        if LONG:
            print(f"\n{found.killed} kills, {found.reads} reads; {found.joined}; {found.learned}")
    assert found.killed == KILLS
    require_sums(found)
    assert found.joined == expected.joined
    assert found.learned == expected.learned
    assert found.known == expected.known
    assert found.reads > 0


@pytest.mark.parametrize("at_random", [False, pytest.param(True, marks=pytest.mark.skipif(not LONG, reason="soak"))])
def test_a_commit_in_two_halves_does_not_pass(tmp_path, capsys, at_random):
    """The control: were position and records committed apart, the comparison above would find it."""
    found = under_fire(tmp_path / "fire", EVENTS, KILLS // 4, split=0 if at_random else 5)
    expected = uninterrupted(tmp_path / "calm", tmp_path / "fire")
    wrong = sum(found.known.get(name) != known for name, known in expected.known.items())
    with capsys.disabled():
        if LONG:
            print(f"\ncontrol, {found.killed} kills: {wrong} of {len(expected.known)} beliefs are wrong")
    assert found.killed > 0
    assert wrong > 0
