"""The example of Lambda Learner: ratings of one person, with 30 latent features and a shared model."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from nearline.arrays import ArrowArray
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import Dataset, delimited, raw_bytes

_FOLDER = "lambda_learner_u359"
_SHARED_MODEL = "movie-lense-initital-fixed-effect-model"  # the file's name is spelt so
_LATENT = 30
_MAPPING = TableMapping(
    response="rating",
    offset="shared_score",
    time="time",
    time_unit="s",
    entities={"user": "user_id"},
    bags={"user": ("latent",)},
)


def load(directory: Path) -> Dataset:
    """Return the 1,146 ratings to train on, in the order of the file.

    Columns: user_id string ("359" throughout); time int64 [s]; rating float64 (0.5 to 5); latent
    fixed_size_list<float64>[30]; shared_score float64, the score of the shared model (an intercept
    and 30 coefficients).
    """
    return _dataset(directory, "lambda_learner_u359", "movie-lense-training-data-u359")


def load_test(directory: Path) -> Dataset:
    """Return the 154 ratings to test on; see `load`."""
    return _dataset(directory, "lambda_learner_u359_test", "movie-lense-test-data-u359")


def _dataset(directory: Path, name: str, file: str) -> Dataset:
    latent_names = [f"latent_{i}" for i in range(_LATENT)]
    fields = ["time", "rating", *latent_names]
    raw = delimited(raw_bytes(directory, _FOLDER, file), delimiter="\t", names=fields)
    # The file's name is spelt like this.
    shared = np.array(
        raw_bytes(directory, _FOLDER, "movie-lense-initital-fixed-effect-model").split(), dtype=float
    )
    latent = np.stack([raw[field].to_numpy() for field in latent_names], axis=1)
    vectors: ArrowArray = pa.FixedSizeListArray.from_arrays(pa.array(latent.ravel()), _LATENT)
    rating: ArrowArray = raw["rating"].cast(pa.float64())
    columns = [
        pa.array(["359"] * len(latent)),
        raw["time"],
        rating,
        vectors,
        pa.array(shared[0] + latent @ shared[1:]),
    ]
    table = pa.Table.from_arrays(columns, names=["user_id", "time", "rating", "latent", "shared_score"])
    return Dataset(name=name, table=table, mapping=_MAPPING)
