"""Simulated rows of users, with coefficients that are known."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

USERS, ROWS = 60, 1800


@final
@dataclass(frozen=True)
class World:
    """Rows, the probability and the mean response behind each, and both kinds of response."""

    frame: pd.DataFrame
    linear: Any
    label: Any
    number: Any


@pytest.fixture(scope="session")
def world() -> World:
    rng = np.random.default_rng(0)
    user = rng.integers(0, USERS, ROWS)
    x = rng.normal(size=(ROWS, 2))
    city = rng.choice(["Oslo", "Rome", "Lima"], ROWS)
    own = rng.normal(size=(USERS, 2)) * [1.5, 1.0]
    linear = 0.3 + 0.8 * x[:, 0] - 0.5 * x[:, 1] + (city == "Rome") + own[user, 0] + own[user, 1] * x[:, 0]
    frame = pd.DataFrame({"user": [f"u{i}" for i in user], "age": x[:, 0], "price": x[:, 1], "city": city})
    label = (rng.random(ROWS) < expit(linear)).astype(int)
    return World(frame, linear, label, linear + rng.normal(size=ROWS))
