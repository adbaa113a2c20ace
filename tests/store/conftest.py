"""Every store there is, for the tests of what they all promise."""

import pytest
from stored import places

from nearline.store.embedded import EmbeddedStore
from nearline.store.memory import MemoryStore
from simulated import trained


@pytest.fixture(scope="session")
def model():
    """A model of users and films, with entities."""
    return trained()[0]


@pytest.fixture(params=["memory", "embedded"])
def new_store(request, tmp_path_factory):
    """Makes stores of one kind, new and empty."""
    made = []

    def make(**how):
        if request.param == "memory":
            made.append(MemoryStore(places, **how))
        else:
            made.append(EmbeddedStore(tmp_path_factory.mktemp("store") / "new", places, **how))
        return made[-1]

    yield make
    for store in made:
        store.close()
