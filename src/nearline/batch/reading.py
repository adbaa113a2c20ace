"""Files and data frames to Arrow tables."""

import gzip
import io
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import narwhals as nw
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from nearline.errors import DataError

_BLOCK_BYTES = 1 << 25
"""Types are inferred from the first block of a text file, and no row may be longer than one."""


def read_table(source: Any, *, text: Collection[str] = ()) -> pa.Table:
    """Return a table from a file, a directory of Parquet files, or a data frame.

    Parameters
    ----------
    source
        A path: `.parquet`, `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.json` (one object to a line), each also
        with `.gz` or `.zst` added, or a directory of Parquet files (with `key=value` folders as columns).
        Or a data frame: anything that exports an Arrow stream (polars, pyarrow, DuckDB, ...) or that
        narwhals can read (pandas, Modin, ...). An empty field of a CSV file is null.
    text
        Columns of a CSV file to keep as text although they look like numbers: identifiers with leading
        zeros, say.

    Raises
    ------
    DataError
        The file is not there, is of no known kind or cannot be parsed, or the object is no data frame.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        try:
            return _read_directory(path) if path.is_dir() else _read_file(path, text)
        except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
    return _read_frame(source)


def open_bytes(path: Path) -> bytes:
    """Return the content of a file, uncompressed if its name ends in `.zst` or `.gz`."""
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            return file.read()
    if path.suffix == ".zst":
        with pa.input_stream(str(path), compression="zstd") as stream:
            return bytes(stream.read())
    return path.read_bytes()


def _read_directory(path: Path) -> pa.Table:
    files = sorted(str(file) for file in path.rglob("*.parquet"))
    if not files:
        raise DataError(f"{path}: expected a directory with .parquet files, found none")
    import pyarrow.dataset  # noqa: PLC0415 - brings in pandas, which takes longer than all else that is imported here

    partitions = pyarrow.dataset.partitioning(flavor="hive")
    found = pyarrow.dataset.dataset(
        files, format="parquet", partitioning=partitions, partition_base_dir=str(path)
    )
    return found.to_table()


def _read_file(path: Path, text: Collection[str]) -> pa.Table:
    suffixes = [suffix for suffix in path.suffixes if suffix not in {".zst", ".gz"}]
    kind = suffixes[-1].lower() if suffixes else ""
    if kind not in _PARSERS:
        raise DataError(
            f"{path}: expected a file ending in {', '.join(_PARSERS)} (and .zst or .gz), got {path.name!r}"
        )
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    return _PARSERS[kind](open_bytes(path), text)


def _parse_parquet(content: bytes, _: Collection[str]) -> pa.Table:
    return pyarrow.parquet.ParquetFile(pa.BufferReader(content)).read()


def _parse_json_lines(content: bytes, _: Collection[str]) -> pa.Table:
    if not content.strip():
        return pa.table({})
    options = pyarrow.json.ReadOptions(block_size=_BLOCK_BYTES)
    return pyarrow.json.read_json(io.BytesIO(content), read_options=options)


def _parse_csv(content: bytes, text: Collection[str], delimiter: str = ",") -> pa.Table:
    table = pyarrow.csv.read_csv(
        io.BytesIO(content),
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(text, pa.string())),
    )
    for position, (name, column) in enumerate(zip(table.column_names, table.columns, strict=True)):
        if pa.types.is_binary(column.type):
            raise UnicodeError(f"column {name!r} is not UTF-8 text")
        if pa.types.is_string(column.type):
            absent = pc.equal(column, pa.scalar(""))
            table = table.set_column(position, name, pc.if_else(absent, pa.scalar(None, pa.string()), column))
    return table


def _parse_tsv(content: bytes, text: Collection[str]) -> pa.Table:
    return _parse_csv(content, text, delimiter="\t")


_PARSERS: dict[str, Callable[[bytes, Collection[str]], pa.Table]] = {
    ".parquet": _parse_parquet,
    ".csv": _parse_csv,
    ".tsv": _parse_tsv,
    ".jsonl": _parse_json_lines,
    ".ndjson": _parse_json_lines,
    ".json": _parse_json_lines,
}


def _read_frame(source: Any) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    try:
        if hasattr(source, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(source).read_all()
        frame = nw.from_native(source)
        table: pa.Table = (frame.collect() if isinstance(frame, nw.LazyFrame) else frame).to_arrow()
    except TypeError as error:
        raise DataError(f"expected a path or a data frame, got {type(source).__name__}") from error
    except (pa.ArrowException, ValueError) as error:
        raise DataError(f"{type(source).__name__}: cannot be made an Arrow table: {error}") from error
    return table
