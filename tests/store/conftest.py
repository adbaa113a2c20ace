"""Every store there is, for the tests of what they all promise."""

import pytest
from stored import place

from nearline.store.memory import MemoryStore
from simulated import trained


@pytest.fixture(scope="session")
def model():
    """A model of users and films, with entities."""
    return trained()[0]


@pytest.fixture(params=["memory"])
def new_store(request, tmp_path_factory):
    """Makes stores of one kind, new and empty."""
    made = []

    def make(**how):
        made.append(MemoryStore(place, **how))
        return made[-1]

    yield make
    for store in made:
        store.close()
