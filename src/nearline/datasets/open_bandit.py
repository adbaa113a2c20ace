"""Open Bandit, men: 2 x 10,000 impressions of fashion items with true propensities, November 2019."""

from pathlib import Path

import pyarrow as pa

from nearline.arrays import ArrowArray
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import Dataset, delimited, raw_bytes, rows_of, sorted_by, take

FILES = ("random", "bts")
_FOLDER = "obd"
_USER = tuple(f"user_feature_{i}" for i in range(4))
_ITEM = tuple(f"item_feature_{i}" for i in range(4))
_MAPPING = TableMapping(
    response="click",
    time="timestamp",
    entities={"item": "item_id"},
    bags={"global": ("position", *_USER, *_ITEM), "item": ()},
)


def load(directory: Path, *, name: str) -> Dataset:
    """Return the impressions of one logging policy in the order of time, ties as in the file.

    `name` is "random", which chose each of 34 items with the same probability, or "bts", Bernoulli Thompson sampling,
    which learned as it went. Columns: timestamp timestamp[ms, UTC]; item_id, position string; click int64;
    propensity float64, the probability of the item at that position; user_feature_0 to 3 string, hashed;
    item_feature_0 float64 and 1 to 3 string, hashed. The affinities of users to items are left out.

    Source: Saito, Aihara, Matsutani and Narita (2020), arXiv 2008.07146.
    """
    content = raw_bytes(directory, _FOLDER, f"{name}_men.csv")
    wanted = ["timestamp", "item_id", "position", "click", "propensity_score", *_USER]
    table = delimited(content, text=["item_id", "position", *_USER], columns=wanted)
    table = table.rename_columns({"propensity_score": "propensity"})
    times: ArrowArray = table["timestamp"].cast(pa.timestamp("ms", tz="UTC"), safe=False)
    table = table.set_column(table.column_names.index("timestamp"), "timestamp", times)
    items = delimited(
        raw_bytes(directory, _FOLDER, f"{name}_men_item_context.csv"), text=["item_id", *_ITEM[1:]]
    )
    rows = rows_of(items["item_id"], table["item_id"], "item").to_numpy()
    for feature in _ITEM:
        table = table.append_column(feature, take(items[feature], rows))
    return Dataset(name=f"open_bandit/{name}", table=sorted_by(table, "timestamp"), mapping=_MAPPING)
