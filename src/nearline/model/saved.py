"""Models <-> one folder: metadata as JSON, everything numeric as Parquet, bit for bit.

::

    model.json                format, outcome, effects, and whatever the trainer had to say
    fixed.parquet             a row per column: bag, name, term, coefficient, precision
    effect-0-columns.parquet  a row per column of the first random effect: bag, name, term, prior mean, prior precision
    effect-0-entities.parquet a row per entity: name, rows learned from, its columns, mean, and the evidence beyond
                              the prior (shift, and precision as a packed upper triangle or a diagonal)

The mean is there for other readers; loading computes it again from prior and evidence. A folder is written beside its
place and then moved there, so a crash or a full disk leaves the old model or the new one, never a mixture. (Cut short
between the two renames, the old model is left whole under a name that the error of the next `load_model` gives.)
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nearline.arrays import ArrowArray, Floats, Ints
from nearline.errors import DataError, ModelError
from nearline.model.effects import FixedCoefficients, RandomEffect
from nearline.model.features import ColumnRegistry
from nearline.model.game import GameModel
from nearline.posterior.blocks import Blocks, packed_starts
from nearline.posterior.evidence import complete, select_evidence
from nearline.posterior.gaussian import Gaussian
from nearline.posterior.outcomes import Outcome

FORMAT = "nearline-game"
FORMAT_VERSION = 1
_AT_ONCE = 1 << 14  # entities whose whole beliefs are held at once
_KEYS = ("column", "bag", "name", "term")
_FILES = re.compile(r"model\.json|fixed\.parquet|effect-\d+-(columns|entities)\.parquet")


def save_model(model: GameModel, folder: Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model to `folder`, replacing a model that is there already.

    `metadata` is kept in model.json for people and tools: anything JSON can hold.

    Raises
    ------
    ModelError
        The folder exists and holds something other than a model, or it cannot be written.
    """
    require_place(folder)
    folder = Path(folder).resolve()
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        _write(model, beside, metadata or {})
        _move_into_place(beside, folder)
    except OSError as error:
        raise ModelError(f"{folder}: the model could not be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def require_place(folder: Path) -> None:
    """Raise a `ModelError` if `folder` holds anything but a model, which saving there would delete."""
    folder = Path(folder)
    if not folder.exists():
        return
    others = [folder.name]
    if folder.is_dir():
        others = sorted(file.name for file in folder.iterdir() if not _FILES.fullmatch(file.name))
        if not others and any(folder.iterdir()):
            _read_description(folder)
    if others:
        raise ModelError(
            f"{folder}: expected a new or empty folder or a model to replace, found {others[0]!r}"
        )


def _move_into_place(beside: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    try:
        beside.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(model: GameModel, folder: Path, metadata: Mapping[str, Any]) -> None:
    fixed = model.fixed.registry.to_table()
    fixed = fixed.append_column("coefficient", pa.array(model.fixed.coefficients))
    if model.fixed.precision is not None:
        fixed = fixed.append_column("precision", pa.array(model.fixed.precision))
    pq.write_table(fixed, folder / "fixed.parquet")
    for number, effect in enumerate(model.random):
        pq.write_table(_columns_table(effect), folder / f"effect-{number}-columns.parquet")
        pq.write_table(_entities_table(effect), folder / f"effect-{number}-entities.parquet")
    description = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "outcome": model.outcome.name.lower(),
        "noise_variance": model.noise_variance,
        "learned_weight": model.learned_weight,
        "fixed": {"bags": list(model.fixed.bags)},
        "random": [_description(effect) for effect in model.random],
        "training": dict(metadata),
    }
    text = json.dumps(description, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "model.json").write_text(text + "\n", encoding="utf-8")


def _description(effect: RandomEffect) -> dict[str, Any]:
    return {
        "name": effect.name,
        "kind": effect.kind,
        "bags": list(effect.bags),
        "precision": "full" if effect.is_full else "diagonal",
        "prior": "diagonal" if effect.prior.is_diagonal else "full",
        "entities": effect.entities,
    }


def _columns_table(effect: RandomEffect) -> pa.Table:
    table = effect.registry.to_table().append_column("prior_mean", pa.array(effect.prior.mean))
    precision: Any = pa.array(effect.prior.precision.ravel())
    if not effect.prior.is_diagonal:
        precision = pa.FixedSizeListArray.from_arrays(precision, len(effect.prior.mean))
    return table.append_column("prior_precision", precision)


def _entities_table(effect: RandomEffect) -> pa.Table:
    evidence = effect.evidence
    assert evidence.column is not None  # noqa: S101 - evidence always lists its columns
    precision_start = evidence.packed_start if evidence.full else evidence.start
    assert precision_start is not None  # noqa: S101
    columns = {
        "entity": effect.names,
        "rows": pa.array(effect.row_count),
        "columns": _lists(evidence.start, evidence.column),
        "mean": _lists(evidence.start, _means(effect)),
        "shift": _lists(evidence.start, evidence.mean),
        "precision": _lists(precision_start, evidence.precision),
    }
    return pa.table(columns)


def _means(effect: RandomEffect) -> Floats:
    """Posterior means over the columns each entity has evidence for."""
    evidence, columns = effect.evidence, len(effect.prior.mean)
    assert evidence.column is not None  # noqa: S101
    if effect.prior.is_diagonal:
        return complete(evidence, effect.prior, (evidence.start, evidence.column)).mean
    means = [np.zeros(0)]
    for begin in range(0, effect.entities, _AT_ONCE):
        some = np.arange(begin, min(begin + _AT_ONCE, effect.entities))
        part = select_evidence(evidence, some)
        assert part.column is not None  # noqa: S101
        whole = np.arange(len(some) + 1, dtype=np.int64) * columns
        every = np.tile(np.arange(columns, dtype=np.int32), len(some))
        beliefs = complete(part, effect.prior, (whole, every))
        means.append(beliefs.mean[np.repeat(whole[:-1], np.diff(part.start)) + part.column])
    return np.concatenate(means)


def _lists(start: Ints, values: np.ndarray[Any, Any]) -> ArrowArray:
    offsets: ArrowArray = pa.array(start)
    return pa.LargeListArray.from_arrays(offsets, pa.array(values))


def load_model(folder: Path) -> tuple[GameModel, dict[str, Any]]:
    """Read a model and its metadata; its predictions are bitwise those of the model that was saved.

    Raises `ModelError` where the folder holds no model, one of a newer format, or one that is damaged.
    """
    folder = Path(folder)
    description = _read_description(folder)
    try:
        fixed = _read_table(folder / "fixed.parquet")
        coefficients = _numbers(fixed, "coefficient")
        precision = _numbers(fixed, "precision") if "precision" in fixed.column_names else None
        registry = ColumnRegistry.from_table(fixed.select(list(_KEYS)))
        _require(len(registry) == len(coefficients), "fixed.parquet: a coefficient for each column")
        part = FixedCoefficients(tuple(description["fixed"]["bags"]), registry, coefficients, precision)
        random = tuple(
            _read_effect(folder, number, entry) for number, entry in enumerate(description["random"])
        )
        outcome = Outcome[description["outcome"].upper()]
        weight = float(description.get("learned_weight", 0.0))
        model = GameModel(outcome, part, random, float(description["noise_variance"]), weight)
        return model, dict(description["training"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError, pa.ArrowException, DataError) as error:
        raise ModelError(f"{folder}: the model is damaged or incomplete: {error}") from error


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    if not path.is_file():
        left = sorted(folder.parent.glob(f".{folder.name}.*.old"))
        if left:
            raise ModelError(
                f"{folder}: saving was cut short; the model that was there is {left[-1]}: move it back"
            )
        raise ModelError(f"{folder}: expected a folder that holds a model, found no model.json in it")
    try:
        description: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        name, version = description["format"], int(description["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not the description of a model: {error}") from error
    if name != FORMAT:
        raise ModelError(f"{path}: expected format {FORMAT!r}, got {name!r}: not a model of nearline")
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{path}: expected a format version up to {FORMAT_VERSION}, got {version}: it needs a newer nearline"
        )
    return description


def _read_effect(folder: Path, number: int, entry: Mapping[str, Any]) -> RandomEffect:
    columns = _read_table(folder / f"effect-{number}-columns.parquet")
    entities = _read_table(folder / f"effect-{number}-entities.parquet")
    full = entry["precision"] == "full"
    mean = _numbers(columns, "prior_mean")
    stored = _one_chunk(columns, "prior_precision")
    if entry["prior"] == "full":
        precision = _values(stored.flatten(), np.float64).reshape(len(mean), len(mean))
    else:
        precision = _values(stored, np.float64)
    start, column = _flat(entities, "columns", np.int32)
    shift_start, shift = _flat(entities, "shift", np.float64)
    precision_start, packed = _flat(entities, "precision", np.float64)
    evidence = Blocks(start, shift, packed, column, packed_starts(start) if full else None, full)
    fits = np.array_equal(shift_start, start) and np.array_equal(
        precision_start, packed_starts(start) if full else start
    )
    _require(fits, f"effect-{number}-entities.parquet: lists of one length for each entity")
    inside = bool(np.all((column >= 0) & (column < len(mean))))
    _require(inside, f"effect-{number}-entities.parquet: columns of effect-{number}-columns.parquet")
    return RandomEffect(
        entry["name"],
        entry["kind"],
        tuple(entry["bags"]),
        ColumnRegistry.from_table(columns.select(list(_KEYS))),
        Gaussian(mean, precision),
        evidence,
        _one_chunk(entities, "entity").cast(pa.string()),
        _values(_one_chunk(entities, "rows"), np.int64),
    )


def _read_table(path: Path) -> pa.Table:
    """One file; `pq.read_table`, which reads whole data sets, would load pandas where it is installed."""
    with pq.ParquetFile(path) as file:
        return file.read()


def _require(condition: bool, expected: str) -> None:
    if not condition:
        raise ValueError(f"expected {expected}")


def _one_chunk(table: pa.Table, name: str) -> ArrowArray:
    column = table.column(name)
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _numbers(table: pa.Table, name: str) -> Floats:
    return _values(_one_chunk(table, name), np.float64)


def _values(array: ArrowArray, dtype: type) -> np.ndarray[Any, Any]:
    """A copy; `np.array(array)` and `array.to_numpy()` would load pandas where it is installed."""
    return np.array(np.from_dlpack(array), dtype=dtype)


def _flat(table: pa.Table, name: str, dtype: type) -> tuple[Ints, np.ndarray[Any, Any]]:
    """Starts and values of a column of lists, without gaps."""
    lists = _one_chunk(table, name)
    size = np.diff(_values(lists.offsets, np.int64))
    start = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    return start, _values(lists.flatten(), dtype)
