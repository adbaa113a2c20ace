"""A new generation out of the row log while the stream goes on: the same as if it had stood still."""

from dataclasses import replace
from threading import Event as Signal
from threading import Thread

import numpy as np
import pytest
from deployments import (
    EFFECTS,
    WORK,
    Deployment,
    begin,
    events,
    everything,
    model,
    new_store,
    settings,
    settings_like,
)
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from nearline.batch.from_rows import read_range
from nearline.batch.refit import Refit, refit
from nearline.batch.settings import FixedSettings
from nearline.errors import ConfigError
from nearline.events.partition import partitions_of
from nearline.store.embedded import EmbeddedStore
from nearline.store.generations import Status
from nearline.stream.chunks import ChunkReader
from nearline.stream.learner import LearnSettings, progress_of
from nearline.testing import ManualClock

FIRST, LATER = events(260), events(420)[len(events(260)) :]


@pytest.fixture
def deployed(tmp_path):
    """Makes deployments, each in a folder of its own, that have learned the first events."""
    made = []

    def make(store=None, first=FIRST, work=WORK):
        made.append(Deployment(tmp_path / str(len(made)), store or new_store(), settings=work))
        made[-1].offer(first)
        made[-1].work()
        return made[-1]

    yield make
    for one in made:
        one.close()


def ended(one: Deployment, work: Refit) -> None:
    while work.turn():
        pass
    work.conclude()
    one.work()


@pytest.fixture(scope="module", params=[1, 2])
def level(request):
    return request.param


def test_a_refit_while_events_arrive_ends_as_one_with_the_stream_stopped(deployed, level):
    still = deployed()
    ended(still, Refit(still.store, still.worker.row_log, settings(level=level), clock=ManualClock()))
    still.offer(LATER)
    still.work()
    without = deployed()
    without.offer(LATER)
    without.work()
    assert still.store.live() == 2
    wanted = everything(still.store, 2)

    @hypothesis(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.lists(
            st.tuples(st.integers(0, 60), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=12
        ),
        st.sampled_from([3, 7, 25]),
    )
    def turn_by_turn(turns, at_once):
        one = deployed(work=replace(WORK, at_once=11 * at_once))
        work = Refit(
            one.store, one.worker.row_log, settings(level=level, at_once=at_once), clock=ManualClock()
        )
        to_come, goes_on = list(LATER), True
        for arrive, worker_turns, refit_turns in turns:
            one.offer(to_come[:arrive])
            del to_come[:arrive]
            for _ in range(worker_turns):
                one.worker.turn()
            for _ in range(refit_turns):
                goes_on = goes_on and work.turn()
        old = everything(one.store, 1)
        ended(one, work)
        assert one.store.live() == 2
        one.offer(to_come)
        one.work()
        assert everything(one.store, 2) == wanted
        one.store.rollback()
        one.work()
        assert everything(one.store, 1) == everything(without.store, 1)
        assert old.keys() == everything(one.store, 1).keys()

    turn_by_turn()


def test_the_generation_that_serves_is_never_written_to_and_can_always_be_read(deployed, level):
    one = deployed()
    before = everything(one.store, 1)
    work = Refit(one.store, one.worker.row_log, settings(level=level))
    assert everything(one.store, 1) == before
    while work.turn():
        assert everything(one.store, 1) == before
        assert one.store.live() == 1
    assert work.conclude().decision == "switched"
    assert everything(one.store, 1) == before


def test_no_row_is_lost_and_none_is_learned_twice(deployed):
    each = LearnSettings()
    one, without = (deployed(work=replace(WORK, learn=each)) for _ in range(2))
    assert refit(one.store, one.worker.row_log, settings(learn=each)).decision == "switched"
    for deployment in (one, without):
        deployment.offer(LATER)
        deployment.work()
    assert one.worker.standing().joined.corrected > 0
    for partition in range(one.store.partitions):
        end = one.worker.row_log.end(partition)
        progress = progress_of(one.store.state(2, partition, b"progress"))
        counts = progress.counts
        assert progress.position == end
        assert counts.rows == counts.learned + counts.taken_back
        for effect in EFFECTS:
            names = without.store.names(1, effect, partition)
            assert one.store.names(2, effect, partition) == names
            rows = one.store.get_many(2, effect, names).rows
            np.testing.assert_array_equal(rows, without.store.get_many(1, effect, names).rows)


def test_a_level_one_refit_moves_the_fixed_effect_and_rescores_what_the_old_one_served(deployed):
    one = deployed()
    done = refit(one.store, one.worker.row_log, settings(level=1))
    assert done.decision == "switched"
    fixed = one.store.model(2).fixed.coefficients
    assert len(fixed) == 3
    assert fixed[1] > 0.2
    assert not one.store.model(1).fixed.coefficients.any()
    one.offer(LATER)
    one.work()
    rows = read_range(one.worker.row_log, 0)
    linear = {}
    for number in (1, 2):
        chunk, _ = ChunkReader(one.store.model(number), number).read(rows.position, rows.rows)
        linear[number] = chunk.linear - chunk.examples.offset
    np.testing.assert_array_equal(linear[1], 0.0)
    rescored = one.store.model(2).fixed.contribution(chunk.examples)
    np.testing.assert_array_equal(linear[2], rescored)
    assert rescored[-1] != 0.0
    two = deployed()
    refit(two.store, two.worker.row_log, settings(level=2))
    assert not two.store.model(2).fixed.coefficients.any()


def test_a_bad_candidate_is_refused_and_says_with_what_figures(deployed):
    one = deployed(first=events(260, told=1.0))
    training = settings_like(one.store.model(1))
    wild = replace(training, random=tuple(replace(each, prior_variance=1e4) for each in training.random))
    done = refit(one.store, one.worker.row_log, settings(training=wild))
    assert done.decision == "refused"
    assert done.verdict.candidate.loss > done.verdict.served.loss + 0.002
    generation = one.store.generations().find(2)
    assert generation.status is Status.REFUSED
    assert generation.metrics["loss"] == done.verdict.candidate.loss
    assert generation.metrics["served_loss"] == done.verdict.served.loss
    assert one.store.live() == 1
    one.offer(LATER)
    one.work()
    assert one.store.live() == 1
    assert refit(one.store, one.worker.row_log, settings(training=wild, margin=1e3)).decision == "switched"


def test_rows_that_nothing_served_decide_nothing(deployed):
    import msgspec

    unserved = [
        msgspec.structs.replace(event, generation=0) if hasattr(event, "generation") else event
        for event in FIRST
    ]
    one = deployed(first=unserved)
    done = refit(one.store, one.worker.row_log, settings())
    assert (done.decision, done.verdict.passes, one.store.live()) == ("undecided", None, 1)
    assert one.store.generations().find(2).status is Status.CANDIDATE


def test_without_a_switch_the_candidate_waits_and_can_be_switched_to_and_back(deployed):
    one = deployed()
    assert refit(one.store, one.worker.row_log, settings(switch=False)).decision == "kept"
    assert one.store.live() == 1
    one.offer(LATER[:100])
    one.work()
    one.store.switch(2)
    one.offer(LATER[100:])
    one.work()
    two = deployed()
    refit(two.store, two.worker.row_log, settings())
    two.offer(LATER)
    two.work()
    assert everything(one.store, 2) == everything(two.store, 2)
    one.store.rollback()
    one.work()
    two.store.rollback()
    two.work()
    assert everything(one.store, 1) == everything(two.store, 1)


def test_somebody_elses_switch_is_not_overruled(deployed):
    one = deployed()
    other = refit(one.store, one.worker.row_log, settings(switch=False)).generation
    work = Refit(one.store, one.worker.row_log, settings())
    one.store.switch(other)
    while work.turn():
        pass
    assert work.conclude().decision == "kept"
    assert one.store.live() == other


class CrashingStore:
    """A store whose n-th commit or change of generations kills the process, before or after it is done."""

    def __init__(self, store, left, after):
        self._store, self._left, self._after = store, left, after

    def __getattr__(self, name):
        found = getattr(self._store, name)
        if name not in {"create", "mark", "switch", "writing"}:
            return found
        if name == "writing":
            return self._writing

        def change(*args, **how):
            self._count(after=False)
            done = found(*args, **how)
            self._count(after=True)
            return done

        return change

    def _writing(self, generation, partition):
        from contextlib import contextmanager

        @contextmanager
        def block():
            with self._store.writing(generation, partition) as txn:
                yield txn
                self._count(after=False)
            self._count(after=True)

        return block()

    def _count(self, *, after):
        if after is not self._after:
            return
        self._left -= 1
        if self._left == 0:
            from nearline.testing import Crash

            raise Crash


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_refit_killed_anywhere_leaves_a_generation_live_and_a_store_to_use(deployed, after):
    from nearline.testing import Crash

    crashes, undisturbed = 0, deployed()
    refit(undisturbed.store, undisturbed.worker.row_log, settings(at_once=400))
    wanted = everything(undisturbed.store, 2)
    while True:
        one = deployed()
        before = everything(one.store, 1)
        try:
            refit(CrashingStore(one.store, crashes + 1, after), one.worker.row_log, settings(at_once=400))
        except Crash:
            crashes += 1
        else:
            break
        assert everything(one.store, 1) == before
        live = one.store.live()
        assert live == 1 or one.store.generations().find(2).status is Status.LIVE
        one.store.prune(10, unfinished=True)
        if live == 1 and crashes % 5 == 0:
            done = refit(one.store, one.worker.row_log, settings(at_once=400))
            assert done.decision == "switched"
            assert everything(one.store, done.generation) == wanted
        one.work()
    assert crashes > 10


def test_what_cannot_be_is_refused_in_words(deployed):
    one = deployed()
    training = settings_like(one.store.model(1))
    for choices, message in (
        ({"level": 3}, r"refit\.level: expected 1 or 2, got 3"),
        ({"held_back": 1.0}, r"refit\.held_back"),
        ({"margin": -1.0}, r"refit\.margin"),
        ({"judged": 0.0}, r"refit\.judged"),
    ):
        with pytest.raises(ConfigError, match=message):
            settings(**choices)
    with pytest.raises(ConfigError, match=r"refit\.positions: expected one for each of 3 partitions"):
        Refit(one.store, one.worker.row_log, settings(positions=(1,)))
    with pytest.raises(ConfigError, match="as in the live generation"):
        Refit(one.store, one.worker.row_log, settings(training=replace(training, random=training.random[:1])))
    assert one.store.generations().last == 1


def test_fixed_settings_are_those_given(deployed):
    one = deployed()
    training = replace(settings_like(one.store.model(1)), fixed=FixedSettings(("f",), l2=1e6))
    refit(one.store, one.worker.row_log, settings(training=training, level=1))
    assert np.abs(one.store.model(2).fixed.coefficients[1:]).max() < 1e-2


def test_serving_reads_never_fail_while_a_refit_a_worker_and_readers_run_at_once(tmp_path):
    def deploy(name):
        store = EmbeddedStore(tmp_path / name / "store", partitions_of, partitions=2)
        begin(store, model())
        one = Deployment(tmp_path / name, store, settings=replace(WORK, at_once=50))
        one.offer(FIRST)
        one.work()
        return one

    def run(target):
        def guarded():
            try:
                target()
            except BaseException as error:  # noqa: BLE001 - told below
                wrong.append(error)

        thread = Thread(target=guarded)
        thread.start()
        return thread

    def read():
        while not done.is_set():
            for effect, kind in (("per-user", "u"), ("per-item", "m")):
                records = one.store.get_many(one.store.live(), effect, [f"{kind}{i}" for i in range(12)])
                assert np.isfinite(records.evidence.precision).all()
                reads.append(int(records.version.max()))

    one, still = deploy("one"), deploy("still")
    wrong, reads, done, stop = [], [], Signal(), Signal()
    threads = [run(read), run(read), run(lambda: one.worker.run(stop))]
    work = run(lambda: refit(one.store, one.worker.row_log, settings(at_once=5)))
    for begin_at in range(0, len(LATER), 20):
        one.offer(LATER[begin_at : begin_at + 20])
    work.join()
    stop.set()
    threads[-1].join()
    one.work()
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert min(reads) > 0
    assert one.store.live() == 2
    positions = one.store.generations().find(2).positions
    still.offer(LATER)
    still.work()
    refit(still.store, still.worker.row_log, settings(positions=positions))
    still.work()
    assert everything(one.store, 2) == everything(still.store, 2)
    one.store.rollback()
    one.work()
    assert everything(one.store, 1) == everything(still.store, 1)
    for deployment in (one, still):
        deployment.close()
        deployment.store.close()
