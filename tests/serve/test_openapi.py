"""Requests drawn from the OpenAPI document, and replies held to it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from served import clock, live_store

from nearline.events import MemoryLog
from nearline.serve import KeptFeatures, Scorer, ScorerSettings
from nearline.serve.http import create_app
from nearline.serve.service import Service

schemathesis = pytest.importorskip("schemathesis")
# A document cannot say which ids are kept, which parameter goes with which policy, or what is in the future.
checks = pytest.importorskip("schemathesis.specs.openapi.checks")


@pytest.fixture(scope="module")
def api():
    with Scorer(live_store(), MemoryLog(), ScorerSettings(name="shop"), clock=clock()) as scorer:
        scorer.keep({"m1": KeptFeatures({"of_item": {"price": 1.0}})})
        yield schemathesis.openapi.from_asgi("/openapi.json", create_app(Service({"shop": scorer})))


def test_what_the_document_allows_is_answered_as_it_says(api):
    """Every operation; bodies, paths and methods that fit the document and ones that do not."""
    operations = [found.ok() for found in api.get_all_operations()]
    assert len(operations) == 27
    for operation in operations:
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def holds(case):
                case.call_and_validate(excluded_checks=[checks.positive_data_acceptance])

            try:
                holds()
            except Unsatisfiable:  # an operation of which nothing can be wrong
                assert mode is schemathesis.GenerationMode.NEGATIVE
