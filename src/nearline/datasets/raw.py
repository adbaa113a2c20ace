"""Raw files of public data sets, plain or compressed, to Arrow tables."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from nearline.arrays import ArrowArray
from nearline.batch.reading import open_bytes
from nearline.batch.tables import TableMapping
from nearline.errors import DataError

_SEPARATOR = "\x1f"  # ASCII unit separator: no text has it


@final
@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A table with a mapping that says what its columns mean and which features suit which effect.

    The bag `global` holds the features of the shared model, every other bag those of the entity of that name.
    """

    name: str
    table: pa.Table
    mapping: TableMapping


def raw_bytes(directory: Path, *parts: str) -> bytes:
    """Return the content of `directory/parts`, or of the same with `.zst` or `.gz` added.

    Raises
    ------
    DataError
        The directory or the file is missing; lists what was looked for.
    """
    if not directory.is_dir():
        raise DataError(f"{directory}: expected the directory of the public data sets, found none")
    plain = directory.joinpath(*parts)
    tried = [plain, *(plain.with_name(plain.name + suffix) for suffix in (".zst", ".gz"))]
    for path in tried:
        if path.is_file():
            try:
                return open_bytes(path)
            except (pa.ArrowException, OSError, EOFError) as error:
                raise DataError(f"{path}: cannot be read: {error}") from error
    looked = ", ".join(str(path) for path in tried)
    raise DataError(f"{parts[0]}: no such file in {directory}; looked for {looked}")


def delimited(
    content: bytes,
    *,
    delimiter: str = ",",
    names: Sequence[str] | None = None,
    quotes: bool = False,
    encoding: str = "utf-8",
    text: Sequence[str] = (),
    columns: Sequence[str] | None = None,
    null: Sequence[str] = ("",),
) -> pa.Table:
    """Return the table of a delimited file: its columns are `names` or, by default, its first line.

    Columns in `text` are strings whatever they look like; fields in `null` are null, also in strings.
    A delimiter may be of several characters. With `columns`, only those are returned.
    """
    if len(delimiter) > 1:
        content = content.replace(delimiter.encode(), _SEPARATOR.encode())
        delimiter = _SEPARATOR
    header = None if names is None else list(names)
    whole = max(len(content), 1)  # one block, so that types are inferred from all of it
    return pyarrow.csv.read_csv(
        io.BytesIO(content),
        read_options=pyarrow.csv.ReadOptions(column_names=header, encoding=encoding, block_size=whole),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, quote_char='"' if quotes else False),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(text, pa.string()),
            null_values=list(null),
            strings_can_be_null=True,
            include_columns=None if columns is None else list(columns),
        ),
    )


def lists_of(starts: NDArray[Any], items: ArrowArray) -> ArrowArray:
    """Return the lists that lie in `items` from one start [n + 1] to the next."""
    offsets: ArrowArray = pa.array(starts, type=pa.int32())
    return pa.ListArray.from_arrays(offsets, items)


def take(values: ArrowArray, rows: NDArray[Any]) -> ArrowArray:
    """Return the values at `rows`."""
    return values.take(pa.array(rows))


def rows_of(keys: ArrowArray, wanted: ArrowArray, what: str) -> ArrowArray:
    """Return for each wanted key its row in `keys`, int32[n].

    Raises
    ------
    DataError
        A wanted key is not there.
    """
    rows: ArrowArray = pc.index_in(wanted, value_set=keys.combine_chunks())
    if rows.null_count:
        unknown = wanted.filter(rows.is_null())[0].as_py()
        raise DataError(f"{what}: {unknown!r} is referred to but not listed")
    return rows


def sorted_by(table: pa.Table, *columns: str) -> pa.Table:
    """Return the rows in the order of `columns`, ties in the order they were."""
    return table.sort_by([(column, "ascending") for column in columns])


def year_in_title(titles: ArrowArray) -> ArrowArray:
    """Return the year at the end of titles such as "Heat (1995)", float64, null where there is none."""
    parts: ArrowArray = pc.extract_regex(titles, r"\((?P<year>\d{4})\)\s*$")
    years: ArrowArray = pc.struct_field(parts, "year")
    return years.cast(pa.float64())


def decades_since_1990(years: ArrowArray) -> ArrowArray:
    """Return (year - 1990) / 10."""
    return pc.divide(pc.subtract(years.cast(pa.float64()), pa.scalar(1990.0)), pa.scalar(10.0))
