"""The rows and the configuration that the tests of every command share."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

CONFIG = """
title = "Simulated"
[data]
path = "rows.csv"
response = "y"
weight = "weight"
offset = "offset"
entities = { user = "user", film = "film" }
bags = { b = ["x", "genre"] }
[fixed_effect]
bags = ["b"]
[random_effects.per-user]
entity = "user"
bags = ["b"]
[random_effects.per-film]
entity = "film"
[training]
sweeps = 2
threads = 1
[evaluation]
resamples = 10
"""


def write(path: Path, rows: pa.Table) -> Path:
    """Write rows as the name of the file says."""
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(rows, path)
    else:
        pq.write_table(rows, path)
    return path
