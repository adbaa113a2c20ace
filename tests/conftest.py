"""Fixtures that many tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("nearline", deadline=None, derandomize=True)
settings.register_profile("soak", deadline=None, max_examples=2_000)
settings.register_profile("ns", deadline=None, derandomize=True, phases=[__import__("hypothesis").Phase.generate])
settings.load_profile(os.environ.get("NEARLINE_HYPOTHESIS", "nearline"))


@pytest.fixture(scope="session")
def data_directory() -> Path:
    """The folder of public data sets; skips without it, or fails where NEARLINE_REQUIRE_DATA is 1."""
    reason = "set NEARLINE_DATA to the folder of public data sets"
    given = os.environ.get("NEARLINE_DATA")
    if given and Path(given).is_dir():
        return Path(given)
    if os.environ.get("NEARLINE_REQUIRE_DATA") == "1":
        pytest.fail(f"NEARLINE_REQUIRE_DATA is 1: {reason}")
    pytest.skip(reason)
