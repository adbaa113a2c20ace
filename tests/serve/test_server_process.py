"""The server as a process: what it acknowledged is in the log after SIGKILL; it drains, and takes over changes."""

import http.client
import http.server
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest
import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from served import model

from nearline.cli.main import run
from nearline.events import EmbeddedLog, Feedback, decode_events
from nearline.events.partition import partitions_of
from nearline.posterior.outcomes import Outcome
from nearline.serve.server import stopping
from nearline.store.embedded import EmbeddedStore
from nearline.stream.joined_log import JoinedLog
from nearline.stream.published import positions_in, publish

triton = pytest.importorskip("tritonclient.http")
NEARLINE = [sys.executable, "-c", "from nearline.cli.start import main; main()"]
CONFIG = """
[data]
path = "none.csv"
response = "clicked"
entities = { user = "user", item = "item" }
bags = { of_item = ["price"], context = ["hour"] }

[random_effects.per-user]
entity = "user"

[random_effects.per-item]
entity = "item"

[stream]
folder = "shop"
window = "200ms"
tick_after = "100ms"
partitions = 2

[serve]
port = 0
logs = "json"
"""
TLS = """certificate = "key.pem"
key = "key.pem"
token_file = "token"
"""
PRICES = """
from nearline.serve import FeatureFunction

by_name = FeatureFunction("of_item", lambda name, entities, features: {"price": int(name[1:]) / 10})
"""
BODY = {"candidates": [{"id": f"m{i}", "features": {"of_item": {"price": i / 10}}} for i in range(5)], "k": 3}


@pytest.fixture
def folder(tmp_path):
    """A deployment with a live generation."""
    (tmp_path / "shop.toml").write_text(CONFIG)
    store = EmbeddedStore(tmp_path / "shop" / "store", partitions_of, partitions=2)
    rows = JoinedLog(tmp_path / "shop" / "joined")
    number = publish(
        store,
        model(Outcome.BERNOULLI),
        created_ms=0,
        as_of_ms=0,
        positions=positions_in(rows, 2, has_learned_all=False),
    ).number
    store.switch(number)
    rows.close()
    store.close()
    return tmp_path


class Server:
    """`nearline serve` in a process of its own."""

    def __init__(self, folder, *options, **variables):
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **variables}
        self.process = subprocess.Popen(  # noqa: S603
            [*NEARLINE, "serve", "shop.toml", *options],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.said = []
        for line in self.process.stderr:
            self.said.append(json.loads(line) if line.startswith("{") else line)
            if "address" in self.said[-1]:
                break
        else:
            raise AssertionError(self.said)
        self.port = int(re.search(r":(\d+)$", self.said[-1]["address"])[1])

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method, path, body=None):
        connection = self.connect()
        try:
            return ask(connection, method, path, body)
        finally:
            connection.close()

    def end(self):
        rest = self.process.stderr.read()
        return self.process.wait(20), rest


def ask(connection, method, path, body=None):
    connection.request(method, path, None if body is None else json.dumps(body))
    reply = connection.getresponse()
    content = reply.read()
    return reply.status, json.loads(content) if content.startswith((b"{", b"[")) else content


@pytest.fixture
def serve(folder):
    """Starts servers, and ends them."""
    servers = []

    def start(*options, **variables):
        servers.append(Server(folder, *options, **variables))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()
        server.process.stderr.close()


def logged(folder):
    with EmbeddedLog(folder / "shop" / "log") as log:
        return decode_events(log.read(0, 100_000).records)


def test_what_was_acknowledged_is_in_the_log_after_sigkill(folder, serve):
    server = serve()
    acknowledged, enough = [], threading.Semaphore(0)

    def client(number):
        with closing(server.connect()) as connection:
            for i in range(10_000):
                try:
                    status, reply = ask(
                        connection,
                        "POST",
                        "/v1/rank",
                        BODY | {"entities": {"user": f"u{number}"}, "id": f"{number}-{i}"},
                    )
                except (OSError, http.client.HTTPException):
                    return
                assert status == 200
                acknowledged.extend(one["impression"] for one in reply["ranked"])
                enough.release()

    threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        enough.acquire(timeout=20)
    server.process.kill()
    for thread in threads:
        thread.join()
    found = {event.id for event in logged(folder)}
    assert len(acknowledged) >= 600
    assert set(acknowledged) <= found
    assert serve().ask("GET", "/health/ready") == (200, {"ready": True})


def test_sigterm_drains_and_ends_with_0(folder, serve):
    server = serve()
    statuses, begun = [], threading.Event()

    def client():
        with closing(server.connect()) as connection:
            while True:
                try:
                    statuses.append(ask(connection, "POST", "/v1/rank", BODY)[0])
                except (OSError, http.client.HTTPException):
                    return
                begun.set()

    thread = threading.Thread(target=client)
    thread.start()
    assert begun.wait(20)
    server.process.send_signal(signal.SIGTERM)
    code, rest = server.end()
    thread.join()
    assert code == 0
    assert "stopped by SIGTERM" in rest
    assert set(statuses) == {200}
    assert len(logged(folder)) == 3 * len(statuses)


def test_the_second_signal_does_not_wait_for_what_is_under_way(serve):
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow:
        slow.sendall(
            b"POST /v1/rank HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 100")  # the server waits for a body that does not come
        server.process.send_signal(signal.SIGTERM)
        while not refuses_connections(server.port):
            assert server.process.poll() is None
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 128 + signal.SIGTERM


def refuses_connections(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
    except OSError:  # refused, or reset where it waited to be taken
        return True
    return False


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_a_signal_before_there_is_anything_to_drain_ends_the_process(number, raised):
    before = signal.getsignal(number)
    with pytest.raises(raised) as caught, stopping():
        signal.raise_signal(number)
    assert getattr(caught.value, "code", 0) == 0
    assert signal.getsignal(number) is before


def test_with_a_certificate_it_answers_by_tls_and_asks_for_the_token(folder, serve):
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(folder / "key.pem")
    (folder / "token").write_text("it's me\n")
    (folder / "shop.toml").write_text(CONFIG + TLS)
    server = serve()
    assert server.said[-1]["address"].startswith("https://")
    context = ssl.create_default_context()
    connection = http.client.HTTPSConnection("localhost", server.port, timeout=20, context=context)
    with closing(connection), pytest.raises(ssl.SSLCertVerificationError):
        connection.connect()
    authority.configure_trust(context)
    with closing(connection):
        assert ask(connection, "POST", "/v1/rank", BODY)[0] == 401
        connection.request("POST", "/v1/rank", json.dumps(BODY), {"Authorization": "Bearer it's me"})
        assert len(json.loads(connection.getresponse().read())["ranked"]) == 3
    assert len(logged(folder)) == 3


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes spans as a collector of OpenTelemetry does."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, ExportTraceServiceRequest.FromString(body)))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_requests_are_spans_of_the_trace_they_came_with(folder, serve):
    (folder / "shop.toml").write_text(CONFIG + "traces = true\n")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        collector.got = []
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        server = serve(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_port}")
        with closing(server.connect()) as connection:
            trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
            connection.request(
                "POST", "/v1/rank", json.dumps(BODY), {"traceparent": f"00-{trace}-{parent}-01"}
            )
            assert connection.getresponse().status == 200
        assert server.ask("GET", "/health/ready")[0] == 200
        server.process.send_signal(signal.SIGTERM)
        assert server.end()[0] == 0
        collector.shutdown()
        thread.join()
    (path, request), *others = collector.got
    (resource,) = request.resource_spans
    (span,) = resource.scope_spans[0].spans
    assert (path, others) == ("/v1/traces", [])
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (trace, parent)
    assert "/v1/rank" in {one.value.string_value for one in span.attributes}
    assert "nearline" in {one.value.string_value for one in resource.resource.attributes}


def test_a_public_client_of_the_open_inference_protocol_is_answered(folder, serve):
    server = serve()
    with closing(triton.InferenceServerClient(f"localhost:{server.port}")) as client:
        assert client.is_server_live()
        assert client.is_model_ready("shop")
        inputs = [triton.InferInput("candidates", [4], "BYTES"), triton.InferInput("of_item", [4, 1], "FP64")]
        inputs[0].set_data_from_numpy(np.array([b"a", b"b", b"c", b"d"], dtype=np.object_))
        inputs[1].set_data_from_numpy(np.arange(4.0)[:, np.newaxis])
        inputs[1]._parameters["features"] = "price"
        result = client.infer("shop", inputs, parameters={"k": 2})
    assert [event.id for event in logged(folder)] == [
        name.decode() for name in result.as_numpy("impressions")
    ]
    assert result.as_numpy("propensity").tolist() == [1.0, 1.0]


def test_an_interrupt_ends_with_130(serve):
    server = serve()
    server.process.send_signal(signal.SIGINT)
    assert server.end()[0] == 130


def test_sighup_takes_over_changed_settings(folder, serve):
    server = serve()
    assert len(server.ask("POST", "/v1/rank", BODY | {"k": None})[1]["ranked"]) == 5
    (folder / "shop.toml").write_text(CONFIG + "k = 2\n")
    server.process.send_signal(signal.SIGHUP)
    assert json.loads(server.process.stderr.readline())["message"] == "reloaded"
    assert len(server.ask("POST", "/v1/rank", BODY | {"k": None})[1]["ranked"]) == 2
    (folder / "shop.toml").write_text(CONFIG + "kk = 2\n")
    server.process.send_signal(signal.SIGHUP)
    assert "kk: no such key" in json.loads(server.process.stderr.readline())["message"]
    assert len(server.ask("POST", "/v1/rank", BODY | {"k": None})[1]["ranked"]) == 2


def test_a_server_that_learns_inline_answers_by_what_it_was_told(folder, serve):
    (folder / "shop.toml").write_text(CONFIG + 'learn = "inline"\n')
    server = serve()
    body = BODY | {"entities": {"user": "u1"}}
    first = server.ask("POST", "/v1/rank", body)[1]["ranked"]
    said = {"feedback": [{"impression": one["impression"], "label": 1} for one in first]}
    assert server.ask("POST", "/v1/feedback", said) == (200, {"accepted": 3})
    again = {name: body[name] for name in ("candidates", "entities")}
    limit = time.monotonic() + 20
    while server.ask("POST", "/v1/score", again)[1]["scored"][0]["versions"]["user"] == 0:
        assert time.monotonic() < limit
    after = {one["id"]: one for one in server.ask("POST", "/v1/score", again)[1]["scored"]}
    for one in first:
        assert after[one["id"]]["probability"] > one["probability"]
        assert after[one["id"]]["std"] < one["std"]
    server.process.send_signal(signal.SIGTERM)
    assert server.end()[0] == 0
    assert any(isinstance(event, Feedback) for event in logged(folder))


def test_a_feature_function_beside_the_configuration_is_asked(folder, serve):
    (folder / "prices.py").write_text(PRICES)
    (folder / "shop.toml").write_text(CONFIG + 'functions = ["prices:by_name"]\n')
    server = serve()
    scored = server.ask("POST", "/v1/score", {"candidates": [{"id": "m5"}, {"id": "m9"}]})[1]["scored"]
    assert scored[0]["linear"] != scored[1]["linear"]
    (folder / "shop.toml").write_text(CONFIG)
    given = [{"id": f"m{i}", "features": {"of_item": {"price": i / 10}}} for i in (5, 9)]
    assert serve().ask("POST", "/v1/score", {"candidates": given})[1]["scored"] == scored


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('functions = ["prices"]\n', 'expected "module:name"'),
        ('functions = ["no_such_module:f"]\n', "No module named 'no_such_module'"),
        ('functions = ["json:loads"]\n', "expected a FeatureFunction, got function"),
        ('token_file = "none"\n', "serve.token_file"),
        ('certificate = "a"\n', "expected certificate and key"),
        ('item = "shelf"\n', "serve.item: no random effect"),
        (
            "policy = { name = 'ucb', epsilon = 0.5 }\n",
            "serve.policy.epsilon: policy 'ucb' has no such parameter",
        ),
    ],
)
def test_a_configuration_that_will_not_do_is_refused(folder, capsys, change, says):
    (folder / "shop.toml").write_text(CONFIG + change)
    assert run(["serve", str(folder / "shop.toml")]) == 2
    assert says in capsys.readouterr().err
