"""The service over HTTP, without a socket."""

import asyncio
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from served import Client, clock, live_store
from test_scorer import SlowLog

from nearline.events import Impression, MemoryLog, decode_events
from nearline.observe.metrics import OF_SERVERS
from nearline.serve import Limits, RankRequest, Scorer, ScorerSettings
from nearline.serve.http import create_app
from nearline.serve.request import decode
from nearline.serve.service import Service

RANK = {
    "candidates": [{"id": "m1", "features": {"of_item": {"price": 1}}}, {"id": "m2"}],
    "entities": {"user": "u1"},
}


@pytest.fixture
def log():
    return MemoryLog()


@pytest.fixture
def scorer(log):
    with Scorer(live_store(), log, ScorerSettings(name="shop"), clock=clock()) as made:
        yield made


@pytest.fixture
def service(scorer):
    return Service({"shop": scorer})


@pytest.fixture
def client(service):
    return Client(create_app(service))


def test_a_ranking_is_in_the_log_when_it_is_answered(client, log):
    reply = client("POST", "/v1/rank", RANK)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    ranked = reply.json()["ranked"]
    events = decode_events(log.read(0, 9).records)
    assert [event.id for event in events] == [one["impression"] for one in ranked]
    assert all(isinstance(event, Impression) for event in events)
    said = client("POST", "/v1/feedback", {"feedback": [{"impression": ranked[0]["impression"], "label": 1}]})
    assert said.json() == {"accepted": 1}
    assert decode_events(log.read(2, 9).records)[0].impression == ranked[0]["impression"]


def test_scores_of_all_candidates_are_not_logged(client, log):
    scored = client("POST", "/v1/score", RANK).json()["scored"]
    assert [one["id"] for one in scored] == ["m1", "m2"]
    assert log.end() == 0


def test_features_are_kept_shown_served_and_deleted(client):
    kept = {"features": {"of_item": {"price": 3.0}}, "entities": {}}
    assert client("PUT", "/v1/candidates/m1", kept).json() == {"kept": 1}
    assert client("PUT", "/v1/models/shop/candidates", {"candidates": {"m2": kept, "m3": {}}}).json() == {
        "kept": 2
    }
    assert client("GET", "/v1/candidates/m1").json() == kept
    scored = client("POST", "/v1/models/shop/score", {"candidates": ["m1", "m2"]}).json()["scored"]
    assert scored[0]["linear"] == scored[1]["linear"]
    assert client("DELETE", "/v1/candidates/m1").json() == {"kept": 0}
    assert client("GET", "/v1/candidates/m1").status == client("DELETE", "/v1/candidates/m1").status == 404
    refused = client("POST", "/v1/score", {"candidates": ["m2", "m1"]})
    assert (refused.status, refused.json()["error"]["path"]) == (400, "$.candidates[1]")


@pytest.mark.parametrize(
    ("body", "path", "message"),
    [
        (
            b'{"candidates": [{"id": "a", "features": {"f": {"age": "x"}}}]}',
            "$.candidates[0].features.f.age",
            "float",
        ),
        (
            b'{"candidates": [{"id": "a", "features": {"f": {"age": NaN}}}]}',
            "$.candidates[0].features.f.age",
            "NaN",
        ),
        (
            b'{"candidates": [{"id": "a", "features": {"f": {"age": 1e999}}}]}',
            "$.candidates[0].features.f.age",
            "Inf",
        ),
        (
            b'{"candidates": ["a", {"id": "b", "features": {"f": [1, null]}}]}',
            "$.candidates[1].features.f[1]",
            "null",
        ),
        (b'{"candidates": ["a"], "entities": {"user": 7}}', "$.entities.user", "str"),
        (b'{"candidates": ["a"], "usr": 7}', "$", "usr"),
        (b'{"candidates": ["a"], "k": 0}', "$.k", ">= 1"),
        (b'{"candidates": ["a"], "policy": {"name": "x", "epsilon": 3}}', "$.policy.epsilon", "1.0"),
        (b'{"candidates": ["a"], "model": "other"}', "$.model", "shop"),
        (b"[]", "$", "object"),
        (b"", "$", "JSON"),
        (b"\xff", "$", "JSON"),
        (b"[" * 10_000, "$", "JSON"),
    ],
)
def test_a_body_that_will_not_do_is_refused_with_the_path_of_the_field(client, log, body, path, message):
    reply = client("POST", "/v1/rank", body)
    assert (reply.status, reply.json()["error"]["path"]) == (400, path)
    assert message in reply.json()["error"]["message"]
    assert log.end() == 0


def test_a_body_beyond_the_limit_is_refused(scorer):
    client = Client(create_app(Service({"shop": scorer}, limits=Limits(body_bytes=2_500))))
    assert client("POST", "/v1/rank", b" " * 2_501).status == 413
    assert client("POST", "/v1/rank", json.dumps(RANK).encode().ljust(2_500)).status == 200


def test_what_is_not_there_and_what_is_not_done_there(client):
    assert client("POST", "/v1/models/other/rank", RANK).status == 404
    assert client("GET", "/nothing").status == 404
    refused = client("GET", "/v1/rank")
    assert (refused.status, refused.headers["allow"]) == (405, "POST")
    assert client("HEAD", "/health/live").body == b""


def test_a_token_is_asked_for_but_for_health(service):
    client = Client(create_app(service, token="secret"))  # noqa: S106
    assert client("POST", "/v1/rank", RANK).status == 401
    assert client("POST", "/v1/rank", RANK, [("Authorization", "Bearer wrong")]).status == 401
    assert client("POST", "/v1/rank", RANK, [("Authorization", "Bearer secret")]).status == 200
    assert client("GET", "/health/live").status == client("GET", "/health/ready").status == 200
    assert client("GET", "/metrics").status == 401


def test_a_server_that_drains_is_alive_but_not_ready(client, service):
    assert client("GET", "/health/ready").json() == {"ready": True}
    service.is_ready = False
    assert client("GET", "/health/ready").status == 503
    assert client("GET", "/health/live").status == 200


def test_too_much_waiting_and_a_full_disk_are_503_and_say_when_to_come_again():
    log = SlowLog()
    with Scorer(live_store(), log, waiting=2, clock=clock()) as scorer:
        client = Client(create_app(Service({"shop": scorer})))
        scorer.commit.submit([b"1", b"2"], lambda error: None)
        busy = client("POST", "/v1/rank", RANK)
        assert (busy.status, busy.headers["retry-after"]) == (503, "1")
        log.fails = True
        log.gate.set()
        while scorer.commit.waiting:
            pass
        full = client("POST", "/v1/feedback", {"feedback": [{"impression": "i", "label": 1}]})
        assert (full.status, full.headers["retry-after"]) == (503, "1")
        assert "disk is full" in full.json()["error"]["message"]


def test_every_metric_of_serving_is_exposed(client):
    client("POST", "/v1/rank", RANK)
    client("POST", "/v1/rank", b"{")
    text = client("GET", "/metrics").body.decode()
    for metric in OF_SERVERS:
        assert f"# TYPE {metric.name} " in text
    assert 'nearline_requests_total{result="answered"} 1.0' in text
    assert 'nearline_requests_total{result="refused"} 1.0' in text
    assert 'nearline_request_seconds_bucket{le="+Inf"} 2.0' in text
    assert "nearline_log_events_total 2.0" in text


def test_several_models_by_name(scorer):
    log = MemoryLog()
    with Scorer(live_store(), log, ScorerSettings(name="other"), clock=clock()) as other:
        client = Client(create_app(Service({"shop": scorer, "other": other})))
        assert client("POST", "/v1/rank", RANK).json()["model"] == "shop"
        assert client("POST", "/v1/rank", RANK | {"model": "other"}).json()["model"] == "other"
        assert client("POST", "/v1/models/other/rank", RANK).json()["model"] == "other"
        assert log.end() == 4


def test_a_reload_takes_over_settings_and_generations(scorer, log):
    def reload():
        scorer.configure(ScorerSettings(name="shop", k=1))

    client = Client(create_app(Service({"shop": scorer}, reload=reload)))
    assert len(client("POST", "/v1/rank", RANK).json()["ranked"]) == 2
    assert client("POST", "/v1/reload").json() == {"shop": 1}
    assert len(client("POST", "/v1/rank", RANK).json()["ranked"]) == 1


def test_the_documents_need_nothing_from_elsewhere(client):
    document = client("GET", "/openapi.json").json()
    assert set(document["paths"]["/v1/candidates/{candidate}"]) == {"put", "get", "delete"}
    page = client("GET", "/docs").body.decode()
    assert "src=" not in page
    assert "http://" not in page and "https://" not in page  # noqa: PT018
    assert all(path in page for path in document["paths"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
fields = st.fixed_dictionaries(
    {
        "candidates": st.lists(
            st.fixed_dictionaries({"id": st.text(max_size=3)}, optional={"features": json_values}), max_size=3
        )
    },
    optional={name: json_values for name in RankRequest.__struct_fields__ if name != "candidates"},
)


@settings(max_examples=150)
@given(
    body=st.binary(max_size=60)
    | json_values.map(lambda x: json.dumps(x).encode())
    | fields.map(lambda x: json.dumps(x).encode())
)
def test_any_body_is_answered_or_refused_with_a_path(body):
    with Scorer(live_store(), MemoryLog(), clock=clock()) as scorer:
        reply = Client(create_app(Service({"shop": scorer})))("POST", "/v1/rank", body)
    assert reply.status in {200, 400}
    if reply.status == 400:
        assert reply.json()["error"]["path"].startswith("$")
    else:
        assert math.isfinite(decode(body, RankRequest).offset)


def test_requests_of_one_turn_share_an_append_and_are_refused_one_by_one():
    body = {"candidates": [{"id": "m1"}, {"id": "m2"}], "k": 2}
    log = SlowLog()
    with Scorer(live_store(), log, waiting=5, clock=clock()) as scorer:
        client = Client(create_app(Service({"model": scorer})))

        async def asked(count):
            replies = [asyncio.ensure_future(client.ask("POST", "/v1/rank", body)) for _ in range(count)]
            while sum(one.done() for one in replies) + scorer.commit.waiting / 2 < count:
                await asyncio.sleep(0)
            log.gate.set()
            return [one.status for one in await asyncio.gather(*replies)]

        assert asyncio.run(asked(3)) == [200, 200, 503]
        before = scorer.commit.appends
        assert asyncio.run(asked(2)) == [200, 200]
        assert scorer.commit.appends == before + 1
