"""The kernels of nearline.posterior refuse what they cannot use, whatever it is, and never crash."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nearline.kernels import _posterior

Call = tuple[Callable[..., object], dict[str, Any]]


def rows(*, sparse: bool) -> SimpleNamespace:
    common = {"count": 4, "columns": 3, "row_start": np.array([0, 1, 4]), "row": np.array([2, 0, 1, 3])}
    form: dict[str, Any] = {
        "dense": np.ones((4, 3)),
        "dense32": None,
        "indptr": None,
        "indices": None,
        "values": None,
    }
    if sparse:
        form = {
            "dense": None,
            "dense32": None,
            "indptr": np.array([0, 3, 4, 4, 5]),
            "indices": np.array([0, 1, 2, 1, 2], np.int32),
            "values": np.ones(5),
        }
    return SimpleNamespace(**common, **form)


def blocks(*, sparse: bool, full: bool = True, shared: bool = False) -> SimpleNamespace:
    entities = 1 if shared else 2
    triangle = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 1.0])
    return SimpleNamespace(
        start=3 * np.arange(entities + 1),
        mean=np.zeros(3 * entities),
        precision=np.tile(triangle, entities) if full else np.ones(3 * entities),
        column=np.tile(np.arange(3, dtype=np.int32), entities) if sparse and not shared else None,
        packed_start=6 * np.arange(entities + 1) if full else None,
        full=full,
        shared=shared,
    )


def score(rows: object, beliefs: object, out: SimpleNamespace, threads: int) -> int:
    return _posterior.score(rows, beliefs, out.mean, out.variance, out.factor, threads)


def draw(rows: object, beliefs: object, out: SimpleNamespace, request: int, first: int, draws: int) -> int:
    return _posterior.draw(rows, beliefs, out.keys, out.scores, out.factor, request, first, draws)


def factor_of(beliefs: object, out: SimpleNamespace, columns: int) -> int:
    return _posterior.factor(beliefs, out.factor, columns)


def labels() -> SimpleNamespace:
    return SimpleNamespace(y=np.ones(4), weight=np.ones(4), offset=np.zeros(4))


def calls() -> Iterator[tuple[str, Call]]:
    for sparse in (False, True):
        for full in (False, True):
            name = f"{'sparse' if sparse else 'dense'} {'full' if full else 'diagonal'}"
            job = SimpleNamespace(
                status=np.zeros(2, np.int8),
                steps=np.zeros(2, np.int32),
                row_learned=np.zeros(4, np.uint8),
                start=np.zeros(6),
            )
            own: dict[str, Any] = {"sparse": sparse, "full": full}
            yield (
                f"update {name}",
                (
                    _posterior.update,
                    {
                        "rows": rows(sparse=sparse),
                        "data": labels(),
                        "prior": blocks(**own),
                        "posterior": blocks(**own),
                        "report": job,
                        "outcome": 1,
                        "method": 0,
                        "tolerance": 1e-10,
                        "max_steps": 100,
                        "threads": 2,
                    },
                ),
            )
            factor = np.tile([1.0, 0.0, 0.0, 1.0, 0.0, 1.0], 2) if full else None
            scores = SimpleNamespace(mean=np.zeros(4), variance=np.zeros(4), factor=factor)
            yield (
                f"score {name}",
                (
                    score,
                    {"rows": rows(sparse=sparse), "beliefs": blocks(**own), "out": scores, "threads": 2},
                ),
            )
            draws = SimpleNamespace(scores=np.zeros(8), keys=np.ones(2, np.uint64), factor=factor)
            yield (
                f"draw {name}",
                (
                    draw,
                    {
                        "rows": rows(sparse=sparse),
                        "beliefs": blocks(**own),
                        "out": draws,
                        "request": 2**64 - 1,
                        "first": 1,
                        "draws": 2,
                    },
                ),
            )
            if full:
                yield (
                    f"factor {name}",
                    (
                        factor_of,
                        {
                            "beliefs": blocks(**own),
                            "out": SimpleNamespace(factor=np.zeros(12)),
                            "columns": 3,
                        },
                    ),
                )
            square = (_posterior.CHUNKS, 3, 3) if full else (_posterior.CHUNKS, 3)
            sums = SimpleNamespace(
                center=np.zeros(3),
                other_variance=np.zeros(4),
                leverage=np.zeros(4),
                pull=np.zeros(4),
                covariance_sum=np.zeros(square),
                square_sum=np.zeros(square),
                mean_sum=np.zeros((_posterior.CHUNKS, 3)),
                log_determinant=np.zeros(2),
                status=np.zeros(2, np.int8),
            )
            yield (
                f"moments {name}",
                (
                    _posterior.moments,
                    {
                        "rows": rows(sparse=sparse),
                        "data": labels(),
                        "beliefs": blocks(**own),
                        "out": sums,
                        "outcome": 1,
                        "threads": 2,
                    },
                ),
            )
            for reverse in (False, True):
                yield (
                    f"complete {name} {'backwards' if reverse else 'forwards'}",
                    (
                        _posterior.complete,
                        {
                            "evidence": blocks(**own),
                            "prior": blocks(**own, shared=True),
                            "belief": blocks(**own),
                            "out": SimpleNamespace(keep=np.ones(2), status=np.zeros(2, np.int8)),
                            "columns": 3,
                            "reverse": reverse,
                            "threads": 2,
                        },
                    ),
                )
    yield (
        "active columns",
        (_posterior.active_columns, {"rows": rows(sparse=True), "known": blocks(sparse=True)}),
    )


NAMES = [name for name, _ in calls()]
MAY_BE_ABSENT = {"row", "weight", "offset", "keep", "variance", "other_variance", "column", "start of report"}
INDICES = {"row", "row_start", "indptr", "indices", "start", "packed_start", "column"}
WRITTEN = {
    "status",
    "steps",
    "row_learned",
    "leverage",
    "pull",
    "covariance_sum",
    "square_sum",
    "mean_sum",
    "log_determinant",
    "variance",
    "scores",
}


def fresh(name: str) -> Call:
    return dict(calls())[name]


def run(call: Call) -> None:
    function, arguments = call
    function(*arguments.values())


@dataclass(frozen=True)
class Spoilt:
    """One argument's attribute and what to put there."""

    argument: str
    attribute: str
    value: Any
    how: str


def spoilt_values(name: str) -> Iterator[Spoilt]:
    for argument, holder in fresh(name)[1].items():
        if not isinstance(holder, SimpleNamespace):
            continue
        for attribute, value in vars(holder).items():
            if not isinstance(value, np.ndarray):
                continue
            is_newton_start = argument == "report" and attribute == "start"
            absent_is_fine = attribute in MAY_BE_ABSENT or is_newton_start
            if attribute == "column" or (attribute == "row" and argument == "rows"):
                absent_is_fine = True
            if attribute == "factor" and not name.startswith("factor"):
                absent_is_fine = True
            if not absent_is_fine:
                yield Spoilt(argument, attribute, None, "missing")
            yield Spoilt(argument, attribute, value.astype(np.complex128), "of another type")
            yield Spoilt(argument, attribute, list(value), "a list")
            yield Spoilt(argument, attribute, value.repeat(2, axis=0)[::2], "with gaps")
            yield Spoilt(argument, attribute, value[:-1], "too short")
            yield Spoilt(argument, attribute, value[:0], "empty")
            yield Spoilt(argument, attribute, value.reshape(-1)[:0].reshape(len(value), 0), "of no width")
            if attribute in WRITTEN:
                sealed = value.copy()
                sealed.setflags(write=False)
                yield Spoilt(argument, attribute, sealed, "read-only")
            if attribute in INDICES and not is_newton_start:
                for at in (0, -1):
                    for wrong in (-1, 2**31 - 1):
                        broken = value.copy()
                        broken[at] = wrong
                        yield Spoilt(argument, attribute, broken, f"{wrong} at {at}")
                if attribute not in {"row", "indices"}:
                    yield Spoilt(argument, attribute, np.ascontiguousarray(value[::-1]), "descending")


@pytest.mark.parametrize("name", NAMES)
def test_arguments_that_fit_are_taken(name: str) -> None:
    run(fresh(name))


@pytest.mark.parametrize("name", NAMES)
def test_arguments_that_do_not_fit_raise(name: str) -> None:
    for spoilt in spoilt_values(name):
        call = fresh(name)
        setattr(call[1][spoilt.argument], spoilt.attribute, spoilt.value)
        try:
            run(call)
        except (ValueError, TypeError):
            continue
        pytest.fail(f"{spoilt.argument}.{spoilt.attribute} {spoilt.how} was taken")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("attribute", "value"),
    [("count", 2**62), ("count", -1), ("count", 3), ("columns", 2**31), ("columns", -1), ("columns", 2**62)],
)
def test_impossible_shapes_raise(name: str, attribute: str, value: int) -> None:
    call = fresh(name)
    if "rows" not in call[1]:
        call[1]["columns"] = -1 if value < 0 else 2**31
    else:
        setattr(call[1]["rows"], attribute, value)
    with pytest.raises((ValueError, TypeError)):
        run(call)


@pytest.mark.parametrize(
    ("argument", "value"), [("outcome", 3), ("outcome", -1), ("method", 4), ("method", -1)]
)
def test_unknown_families_and_methods_raise(argument: str, value: int) -> None:
    for name in NAMES:
        call = fresh(name)
        if argument in call[1]:
            call[1][argument] = value
            with pytest.raises(ValueError, match="unknown"):
                run(call)


@pytest.mark.parametrize("threads", [-5, 0, 1, 10_000])
@pytest.mark.parametrize("name", [name for name, call in calls() if "threads" in call[1]])
def test_any_number_of_threads_will_do(name: str, threads: int) -> None:
    call = fresh(name)
    call[1]["threads"] = threads
    run(call)


def test_blocks_of_different_entities_raise() -> None:
    call = fresh("update dense full")
    call[1]["prior"].start = np.array([0, 2, 5])
    call[1]["prior"].packed_start = np.array([0, 3, 9])
    with pytest.raises(ValueError, match="blocks"):
        run(call)


def test_a_full_prior_needs_a_full_posterior() -> None:
    call = fresh("update dense diagonal")
    call[1]["prior"] = blocks(sparse=False, full=True)
    with pytest.raises(ValueError, match="full"):
        run(call)


def one() -> dict[str, Any]:
    return {
        "mean": np.zeros(3),
        "precision": np.eye(3),
        "x": np.ones((4, 3)),
        "y": np.ones(4),
        "weight": np.ones(4),
        "offset": np.zeros(4),
        "new_mean": np.empty(3),
        "new_precision": np.empty((3, 3)),
        "outcome": 1,
        "method": 0,
        "tolerance": 1e-10,
        "max_steps": 100,
    }


@pytest.mark.parametrize("name", ["mean", "precision", "x", "y", "weight", "offset"])
def test_one_update_refuses_what_does_not_fit(name: str) -> None:
    right = one()
    assert _posterior.update_one(**right) == 0
    good = one()[name]
    for wrong in (good[:-1], good[:0], good[..., None], list(good), good.astype(np.complex128)):
        with pytest.raises((ValueError, TypeError)):
            _posterior.update_one(**(one() | {name: wrong}))
    for other in (good.astype(np.float32), good.astype(np.int64), good.repeat(2, axis=0)[::2]):
        taken = one() | {name: other}
        assert _posterior.update_one(**taken) == 0  # copied on the way in
        np.testing.assert_array_equal(taken["new_mean"], right["new_mean"])
        np.testing.assert_array_equal(taken["new_precision"], right["new_precision"])
    if name not in {"weight", "offset"}:
        with pytest.raises((ValueError, TypeError)):
            _posterior.update_one(**(one() | {name: None}))


def test_an_instruction_set_the_machine_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="v9"):
        _posterior.use_instruction_set("v9")
    assert _posterior.instruction_set() in _posterior.available_instruction_sets()


@pytest.mark.parametrize("name", ["new_mean", "new_precision"])
def test_one_update_writes_only_where_it_was_told_to(name: str) -> None:
    good = one()[name]
    sealed = good.copy()
    sealed.setflags(write=False)
    for wrong in (
        good[:-1],
        good[:0],
        good.astype(np.float32),
        good.repeat(2, axis=0)[::2],
        sealed,
        list(good),
        None,
    ):
        with pytest.raises((ValueError, TypeError)):
            _posterior.update_one(**(one() | {name: wrong}))
