"""Elec2: whether the price of electricity in New South Wales rises, every half hour, 1996-98."""

from pathlib import Path

from nearline.batch.tables import TableMapping
from nearline.datasets.raw import Dataset, delimited, raw_bytes

_FEATURES = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")


def load(directory: Path) -> Dataset:
    """Return the 45,312 half hours in their order: six features scaled to [0, 1] and `class`, 1 for up."""
    table = delimited(raw_bytes(directory, "elec2", "elec.csv"))
    mapping = TableMapping(response="class", bags={"global": _FEATURES})
    return Dataset(name="elec2", table=table, mapping=mapping)
