"""Plain generalised linear models that Photon ML is tested on: a9a, heart (classes) and mg (a number)."""

from collections.abc import Mapping
from pathlib import Path

from nearline.batch.libsvm import parse_libsvm
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import Dataset, raw_bytes

FILES: Mapping[str, str] = {
    "a9a": "a9a",
    "a9a_test": "a9a.t",
    "heart": "heart.txt",
    "heart_test": "heart_validation.txt",
    "mg": "mg.txt",
}
"""Data set to its file, in LIBSVM format."""


def load(directory: Path, name: str) -> Dataset:
    """Return one of `FILES`: response float64 (-1 or 1, or for mg a number), x map<string, float64>."""
    table = parse_libsvm(raw_bytes(directory, "photon_ref", FILES[name]), source=FILES[name])
    threshold = None if name == "mg" else 0.0
    mapping = TableMapping(response="response", response_above=threshold, bags={"global": ("x",)})
    return Dataset(name=name, table=table, mapping=mapping)
