"""Tables to examples, as a mapping of their columns says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
import pyarrow as pa

from nearline.arrays import Floats
from nearline.batch.columns import TimeUnit, entity_column, find_column, numbers, times_ms
from nearline.batch.feature_columns import bag_of, column_features
from nearline.model.examples import Examples


@final
@dataclass(frozen=True, slots=True)
class TableMapping:
    """What the columns of a table mean.

    response: the column of the response: a number or a boolean.
    response_above: if given, the response is 1 where the column is above this and 0 elsewhere.
    weight, offset: columns of numbers; where there is none, 1 and 0.
    time: a column of timestamps, or of integers in `time_unit` ("s" or "ms") since 1970 (UTC).
    entities: kind of entity to the column of its identifiers: strings or integers, null where there is none.
    bags: bag to the columns of its features (the kinds are listed in `nearline.batch.feature_columns`).
    """

    response: str
    response_above: float | None = None
    weight: str | None = None
    offset: str | None = None
    time: str | None = None
    time_unit: TimeUnit = "ms"
    entities: Mapping[str, str] = field(default_factory=dict)
    bags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def examples_from_table(
    table: pa.Table, mapping: TableMapping, *, source: str = "table", labelled: bool = True
) -> Examples:
    """Return the rows of a table as examples.

    Null in the response, weight or offset becomes NaN, which `finite_rows` counts; null in a feature is no
    feature, in an entity column no entity. Integer entities are named by their decimal digits.

    Parameters
    ----------
    source
        What error messages call the table: the path of its file, say.
    labelled
        If false, the response column may be absent and the response is NaN throughout: rows to be scored.

    Raises
    ------
    DataError
        A column is missing or is of the wrong type, or a time is null.
    """
    rows = table.num_rows
    response = _numbers_or(np.nan, table, mapping.response if labelled else None, "response", source)
    if mapping.response_above is not None:
        above = (response > mapping.response_above).astype(np.float64)
        response = np.where(np.isnan(response), np.nan, above)
    time_ms = None
    if mapping.time is not None:
        time_ms = times_ms(find_column(table, mapping.time, "time", source), mapping.time_unit)
    features = {
        name: column_features(find_column(table, name, f"bags.{bag}", source))
        for bag, names in mapping.bags.items()
        for name in names
    }
    return Examples(
        response=response,
        weight=_numbers_or(1.0, table, mapping.weight, "weight", source),
        offset=_numbers_or(0.0, table, mapping.offset, "offset", source),
        time_ms=time_ms,
        bags={bag: bag_of([features[name] for name in names], rows) for bag, names in mapping.bags.items()},
        entities={
            kind: entity_column(find_column(table, name, f"entities.{kind}", source))
            for kind, name in mapping.entities.items()
        },
    )


def _numbers_or(absent: float, table: pa.Table, name: str | None, role: str, source: str) -> Floats:
    """Return a column of numbers, or `absent` in every row where the mapping names none."""
    if name is None:
        return np.full(table.num_rows, absent)
    return numbers(find_column(table, name, role, source))
