"""Files and data frames to tables."""

import gzip
import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nearline.batch.reading import read_table
from nearline.errors import DataError

TABLE = pa.table({"id": [1, 2, 3], "name": ["ä", None, 'c,\n"d"'], "x": [0.5, None, -2.0]})


def as_bytes(kind):
    if kind == ".parquet":
        sink = pa.BufferOutputStream()
        pq.write_table(TABLE, sink)
        return sink.getvalue().to_pybytes()
    if kind in {".csv", ".tsv"}:
        return TABLE.to_pandas().to_csv(index=False, sep="," if kind == ".csv" else "\t").encode()
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in TABLE.to_pylist()).encode()


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", [".parquet", ".csv", ".tsv", ".jsonl", ".ndjson", ".json"])
def test_a_file_of_every_kind_gives_the_same_table(tmp_path, kind, compression):
    content = as_bytes(kind)
    if compression == ".gz":
        content = gzip.compress(content)
    elif compression == ".zst":
        content = pa.compress(content, codec="zstd", asbytes=True)
    path = tmp_path / f"a.b{kind}{compression}"
    path.write_bytes(content)
    for source in (path, str(path)):
        assert read_table(source).to_pylist() == TABLE.to_pylist()


def test_a_directory_of_parquet_files_is_one_table(tmp_path):
    for day, rows in (("1", TABLE.slice(0, 1)), ("2", TABLE.slice(1))):
        (tmp_path / f"day={day}").mkdir()
        pq.write_table(rows, tmp_path / f"day={day}" / "part.parquet")
    found = read_table(tmp_path)
    assert found.select(TABLE.column_names).to_pylist() == TABLE.to_pylist()
    assert found["day"].to_pylist() == [1, 2, 2]


class Capsule:
    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "frame",
    [TABLE, Capsule(TABLE), pl.from_arrow(TABLE), pl.from_arrow(TABLE).lazy(), TABLE.to_batches()[0]],
    ids=["arrow", "capsule", "polars", "lazy polars", "batch"],
)
def test_any_data_frame_gives_the_same_table(frame):
    assert read_table(frame).to_pylist() == TABLE.to_pylist()


def test_a_pandas_frame_gives_the_same_table():
    frame = pd.DataFrame({"id": [1, 2], "name": ["ä", None], "kind": pd.Categorical(["a", "b"])})
    rows = read_table(frame).to_pylist()
    assert rows == [{"id": 1, "name": "ä", "kind": "a"}, {"id": 2, "name": None, "kind": "b"}]


def test_identifiers_can_be_kept_as_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("film,x\n007,1\n")
    assert read_table(path)["film"].to_pylist() == [7]
    assert read_table(path, text=["film"])["film"].to_pylist() == ["007"]


def test_files_without_rows_are_empty_tables(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n")
    (tmp_path / "a.jsonl").write_text("")
    assert read_table(tmp_path / "a.csv").num_rows == 0
    assert read_table(tmp_path / "a.jsonl").num_rows == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xls", b"", "expected a file ending in .parquet, .csv"),
        ("a", b"", "expected a file ending in"),
        ("a.csv", b"", "cannot be read: Empty CSV"),
        ("a.csv", b"x,y\n1\n", "a.csv: cannot be read: .*Expected 2 columns, got 1"),
        ("a.csv", b"x\n\xff\xfe\n1\n", "a.csv: cannot be read: column 'x' is not UTF-8"),
        ("a.jsonl", b"{", "a.jsonl: cannot be read"),
        ("a.parquet", b"PAR1", "a.parquet: cannot be read"),
        ("a.csv.zst", b"no", "a.csv.zst: cannot be read"),
        ("a.csv.gz", b"no", "a.csv.gz: cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_table(tmp_path / name)


def test_what_is_not_there_or_no_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "b.csv")
    with pytest.raises(DataError, match="found none"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="expected a path or a data frame, got int"):
        read_table(3)
    with pytest.raises(DataError, match="DataFrame: cannot be made an Arrow table"):
        read_table(pd.DataFrame({"x": np.array([1, "a"], dtype=object)}))
