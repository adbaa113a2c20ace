"""Serving: one server process on one core, under an open load from another process.

A request has 100 candidates of 50 features; the store has 100,000 entities; what is shown (10 each) is in the log
before it is answered. The requests come at a fixed rate whether or not the server keeps up (`benchmarks.load`). The
policy is the default, greedy; Thompson sampling, whose propensities are counted in 200 further draws, has a figure of
its own.
"""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.load import write_requests
from benchmarks.measurement import Bar, Measurement
from benchmarks.serving import CONTEXT, FEATURES, deploy

CANDIDATES = 100
TASKSET = shutil.which("taskset") or "taskset"
NEARLINE = [sys.executable, "-c", "from nearline.cli.start import main; main()"]
SETTINGS = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def run(quick: bool = False) -> list[Measurement]:
    """All figures of this module."""
    users, items = (9_000, 1_000) if quick else (90_000, 10_000)
    seconds = 3.0 if quick else 10.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deploy(folder, users=users, items=items)
        server, port = _started(folder)
        try:
            found = _served(folder, port, server.pid, users, items, seconds)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
        return found


def _started(folder: Path) -> tuple["subprocess.Popen[str]", int]:
    """The server on the first core, and its port."""
    server = subprocess.Popen(  # noqa: S603
        [TASKSET, "-c", "0", *NEARLINE, "serve", "shop.toml", "--port", "0"],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        env=SETTINGS,
    )
    assert server.stderr is not None
    for line in server.stderr:
        if "http://" in line:
            return server, int(line.strip().rpartition(":")[2])
    raise RuntimeError("the server did not start")


def _served(folder: Path, port: int, pid: int, users: int, items: int, seconds: float) -> list[Measurement]:
    rng = np.random.default_rng(2)
    found = []
    for name, rate, least, make in (
        ("named features", 300, None, _named),
        ("by id", 1_500, 3_000, _by_id),
        ("one binary tensor", 1_500, 3_000, _tensor),
    ):
        file = folder / "requests"
        write_requests(file, [make(rng, users, items) for _ in range(100 if make is _named else 1_000)])
        _load(port, file, seconds=1.0)  # what is asked for often is in memory
        most = _load(port, file, seconds=seconds)
        bar = None if least is None else Bar(least)
        found.append(Measurement(f"{name}: at saturation", most["per_second"], "requests/s", bar))
        before, at_rate = _cpu_seconds(pid), _load(port, file, seconds=seconds, rate=rate)
        cpu_us = (_cpu_seconds(pid) - before) / at_rate["answered"] * 1e6
        what = f"{name}, {rate} requests/s"
        found += [
            Measurement(f"{what}: p50", at_rate["p50"], "ms"),
            Measurement(f"{what}: p99", at_rate["p99"], "ms", Bar(20.0, "at most")),
            Measurement(f"{what}: p99.9", at_rate["p99.9"], "ms"),
            Measurement(f"{what}: processor time a request", cpu_us, "us"),
            Measurement(f"{what}: the load generator's share of its core", at_rate["busy"], ""),
        ]
    file = folder / "requests"
    write_requests(file, [_by_id(rng, users, items, policy="thompson") for _ in range(100)])
    thompson = _load(port, file, seconds=seconds / 2)
    return [
        *found,
        Measurement("by id, Thompson sampling: at saturation", thompson["per_second"], "requests/s"),
    ]


def _load(port: int, file: Path, *, seconds: float, rate: float | None = None) -> dict[str, Any]:
    """What a load from another process, on the last core, found; every request must have been answered."""
    core = str((os.cpu_count() or 1) - 1)
    command = [
        TASKSET,
        "-c",
        core,
        sys.executable,
        "-m",
        "benchmarks.load",
        "127.0.0.1",
        str(port),
        str(file),
    ]
    command += ["--seconds", str(seconds), *(() if rate is None else ("--rate", str(rate)))]
    said = subprocess.run(  # noqa: S603
        command, check=True, capture_output=True, text=True, env=SETTINGS
    ).stdout
    found: dict[str, Any] = json.loads(said)
    assert set(found["statuses"]) == {"200"}, found
    assert found["lost"] == 0, found
    return found


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _by_id(rng: np.random.Generator, users: int, items: int, **more: str) -> bytes:
    candidates = [f"i{i}" for i in rng.choice(items, CANDIDATES, replace=False)]
    return _http("/v1/rank", json.dumps(_shared(rng, users) | {"candidates": candidates} | more).encode())


def _named(rng: np.random.Generator, users: int, items: int) -> bytes:
    chosen, values = (
        rng.choice(items, CANDIDATES, replace=False),
        rng.normal(size=(CANDIDATES, FEATURES)).round(4),
    )
    names = [f"f{i}" for i in range(FEATURES)]
    candidates = [
        {"id": f"i{i}", "features": {"of_item": dict(zip(names, row.tolist(), strict=True))}}
        for i, row in zip(chosen, values, strict=True)
    ]
    return _http("/v1/rank", json.dumps(_shared(rng, users) | {"candidates": candidates}).encode())


def _tensor(rng: np.random.Generator, users: int, items: int) -> bytes:
    chosen, values = rng.choice(items, CANDIDATES, replace=False), rng.normal(size=(CANDIDATES, FEATURES))
    shared = _shared(rng, users)
    ids = b"".join(struct.pack("<I", len(one)) + one for one in (f"i{i}".encode() for i in chosen))
    tensor = values.astype("<f4").tobytes()
    context = list(shared["features"]["context"].values())
    columns = ",".join(f"f{i}" for i in range(FEATURES))
    head = json.dumps(
        {
            "inputs": [
                _input("candidates", "BYTES", [CANDIDATES], {"binary_data_size": len(ids)}),
                _input(
                    "of_item",
                    "FP32",
                    [CANDIDATES, FEATURES],
                    {"binary_data_size": len(tensor), "features": columns},
                ),
                _input("user", "BYTES", [1], {}) | {"data": [shared["entities"]["user"]]},
                _input("context", "FP64", [1, CONTEXT], {"features": ",".join(shared["features"]["context"])})
                | {"data": context},
            ]
        }
    ).encode()
    return _http(
        "/v2/models/shop/infer", head + ids + tensor, f"inference-header-content-length: {len(head)}\r\n"
    )


def _input(name: str, datatype: str, shape: list[int], parameters: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def _shared(rng: np.random.Generator, users: int) -> dict[str, Any]:
    context = {f"c{i}": float(value) for i, value in enumerate(rng.normal(size=CONTEXT).round(3))}
    return {"entities": {"user": f"u{rng.zipf(1.2) % users}"}, "features": {"context": context}}


def _http(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


if __name__ == "__main__":
    for one in run(quick="--quick" in sys.argv):
        sys.stdout.write(f"{one}\n")
