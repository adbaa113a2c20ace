"""Loaders of public data sets, from a directory of their raw files to tables and recommended mappings."""

from nearline.datasets.catalogue import load, names
from nearline.datasets.raw import Dataset

__all__ = ["Dataset", "load", "names"]
