"""The Open Inference Protocol, as a public client writes and reads it."""

import json

import numpy as np
import pytest
from served import Client, clock, live_store

from nearline.events import MemoryLog, decode_events
from nearline.serve import KeptFeatures, Scorer, ScorerSettings
from nearline.serve.http import create_app
from nearline.serve.service import Service

triton = pytest.importorskip("tritonclient.http")
IDS = [f"m{i}" for i in range(6)]
PRICES = np.arange(12, dtype=np.float64).reshape(6, 2) / 10
INFER = "/v2/models/shop/infer"


@pytest.fixture
def log():
    return MemoryLog()


@pytest.fixture
def client(log):
    with Scorer(live_store(), log, ScorerSettings(name="shop"), clock=clock()) as scorer:
        scorer.keep({name: KeptFeatures({"of_item": {"price": i / 10}}) for i, name in enumerate(IDS)})
        yield Client(create_app(Service({"shop": scorer})))


def texts(name, values, *, binary):
    tensor = triton.InferInput(name, [len(values)], "BYTES")
    tensor.set_data_from_numpy(
        np.array([value.encode() for value in values], dtype=np.object_), binary_data=binary
    )
    return tensor


def numbers(name, values, *, binary, kind="FP64"):
    tensor = triton.InferInput(name, list(values.shape), kind)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def infer(client, inputs, *, binary=True, outputs=None, **parameters):
    how = {"outputs": outputs, "request_id": "r1", "parameters": parameters}
    body, size = triton.InferenceServerClient.generate_request_body(inputs, **how)
    headers = [] if size is None else [("Inference-Header-Content-Length", str(size))]
    reply = client("POST", INFER, bytes(body), headers)
    assert reply.status == 200, reply.body
    length = reply.headers.get("inference-header-content-length")
    return triton.InferenceServerClient.parse_response_body(reply.body, header_length=length and int(length))


@pytest.mark.parametrize("binary", [True, False])
def test_candidates_by_id_with_a_policy_in_the_parameters(client, log, binary):
    inputs = [texts("candidates", IDS, binary=binary), texts("user", ["u1"], binary=binary)]
    result = infer(client, inputs, policy="thompson", draws=20, k=4)
    shown = decode_events(log.read(0, 9).records)
    assert [name.decode() for name in result.as_numpy("impressions")] == [event.id for event in shown]
    assert [name.decode() for name in result.as_numpy("candidates")] == [
        event.entities["item"] for event in shown
    ]
    assert result.as_numpy("propensity").tolist() == [event.propensity for event in shown]
    assert (
        {event.policy for event in shown} == {result.get_response()["parameters"]["policy"]} == {"thompson"}
    )
    assert {event.entities["user"] for event in shown} == {"u1"}
    assert result.get_response()["id"] == "r1"


@pytest.mark.parametrize("kind", ["FP64", "FP32"])
@pytest.mark.parametrize("binary", [True, False])
def test_one_tensor_of_candidates_is_scored_as_the_same_in_json(client, log, binary, kind):
    prices = PRICES.astype(np.float32 if kind == "FP32" else np.float64)
    tensor = numbers("of_item", prices, binary=binary, kind=kind)
    tensor._parameters["features"] = "price,genre=news"
    hour = numbers("context", np.array([[2.0]]), binary=binary)
    hour._parameters["features"] = "hour"
    outputs = [
        triton.InferRequestedOutput("expected", binary_data=binary),
        triton.InferRequestedOutput("candidates"),
    ]
    inputs = [texts("candidates", IDS, binary=binary), texts("user", ["u1"], binary=binary), tensor, hour]
    result = infer(client, inputs, outputs=outputs, k=6)
    body = {
        "candidates": [
            {"id": name, "features": {"of_item": {"price": float(row[0]), "genre=news": float(row[1])}}}
            for name, row in zip(IDS, prices, strict=True)
        ],
        "entities": {"user": "u1"},
        "features": {"context": {"hour": 2.0}},
        "id": "r1",
        "k": 6,
    }
    ranked = client("POST", "/v1/rank", body).json()["ranked"]
    assert [name.decode() for name in result.as_numpy("candidates")] == [one["id"] for one in ranked]
    assert result.as_numpy("expected").tolist() == [one["probability"] for one in ranked]
    assert result.as_numpy("score") is None
    events = decode_events(log.read(0, 99).records)
    assert events[:6] == events[6:]


def test_a_tensor_without_names_is_a_list_of_features(client, log):
    infer(client, [texts("candidates", IDS, binary=True), numbers("other", PRICES, binary=True)], k=1)
    (event,) = decode_events(log.read(0, 9).records)
    assert event.features == {"other": PRICES[IDS.index(event.entities["item"])].tolist()}


def test_health_and_metadata(client):
    assert client("GET", "/v2/health/live").status == client("GET", "/v2/health/ready").status == 200
    assert "binary_tensor_data" in client("GET", "/v2").json()["extensions"]
    about = client("GET", "/v2/models/shop").json()
    assert about["versions"] == ["1"]
    assert [one["name"] for one in about["inputs"]] == ["candidates", "user", "context", "of_item"]
    assert client("GET", "/v2/models/shop/versions/1/ready").json() == {"name": "shop", "ready": True}
    assert (
        client("GET", "/v2/models/shop/versions/2").status == client("GET", "/v2/models/other").status == 404
    )


CANDIDATES = {"name": "candidates", "shape": [2], "datatype": "BYTES", "data": ["m1", "m2"]}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"inputs": []}, "an input 'candidates'"),
        ({"inputs": [CANDIDATES, CANDIDATES]}, "each input once"),
        ({"inputs": [CANDIDATES | {"shape": [3]}]}, "expected 3 values, got 2"),
        ({"inputs": [CANDIDATES | {"data": ["a", 7]}]}, "$.inputs.candidates.data[1]: expected a string"),
        ({"inputs": [CANDIDATES | {"datatype": "TEXT"}]}, "$.inputs.candidates.datatype"),
        ({"inputs": [CANDIDATES | {"shape": [-2]}]}, "$.inputs.candidates.shape"),
        (
            {"inputs": [CANDIDATES | {"parameters": {"binary_data_size": 9}}]},
            "binary_data_size: expected up to 0",
        ),
        ({"inputs": [CANDIDATES], "parameters": {"q": 1}}, "$.parameters.q"),
        ({"inputs": [CANDIDATES], "parameters": {"epsilon": 1}}, "$.parameters.policy"),
        ({"inputs": [CANDIDATES], "parameters": {"k": 0}}, "$.parameters.k"),
        ({"inputs": [CANDIDATES], "parameters": {"policy": "best"}}, "$.policy.name"),
        ({"inputs": [CANDIDATES], "outputs": [{"name": "loss"}]}, "no output 'loss'"),
        (
            {"inputs": [CANDIDATES, {"name": "b", "shape": [3, 1], "datatype": "FP64", "data": [1, 2, 3]}]},
            "$.inputs.b: expected shape [2, m] or [1, m]",
        ),
        ({"inputs": [CANDIDATES, CANDIDATES | {"name": "user"}]}, "$.inputs.user: expected BYTES [1]"),
        ({"inputs": 7}, "$.inputs: expected `array`"),
    ],
)
def test_what_will_not_do_is_refused_in_words(client, log, request_, says):
    reply = client("POST", INFER, request_)
    assert reply.status == 400
    assert says in json.loads(reply.body)["error"]
    assert log.end() == 0


@pytest.mark.parametrize("length", ["x", "-1", "9999"])
def test_a_length_of_the_head_that_cannot_be_is_refused(client, length):
    reply = client("POST", INFER, {"inputs": [CANDIDATES]}, [("Inference-Header-Content-Length", length)])
    assert reply.status == 400
