"""Writes clicks.csv: generated impressions, and who clicked."""

from pyarrow.csv import write_csv

from nearline.datasets.generated import generate

write_csv(generate(20_000, seed=1).table, "clicks.csv")
