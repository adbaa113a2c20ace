"""A server process under load, and what is asked of it: shared by the benchmarks of serving."""

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving import CONTEXT, FEATURES

CANDIDATES = 100
TASKSET = shutil.which("taskset") or "taskset"
NEARLINE = [sys.executable, "-c", "from nearline.cli.start import main; main()"]
SETTINGS = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


def started(folder: Path) -> tuple["subprocess.Popen[str]", int]:
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


def begun_load(
    port: int, file: Path, *, seconds: float, rate: float | None = None
) -> "subprocess.Popen[str]":
    """A load from another process, on the last core; it says what it found when it ends."""
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
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=SETTINGS)  # noqa: S603


def load(port: int, file: Path, *, seconds: float, rate: float | None = None) -> dict[str, Any]:
    """What a load found; every request must have been answered."""
    asking = begun_load(port, file, seconds=seconds, rate=rate)
    said, _ = asking.communicate()
    assert asking.returncode == 0
    found: dict[str, Any] = json.loads(said)
    assert set(found["statuses"]) == {"200"}, found
    assert found["lost"] == 0, found
    return found


def own_memory(pid: int) -> int:
    """Bytes in memory that are the process's own, without files it has mapped."""
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def by_id(rng: np.random.Generator, users: int, items: int, **more: str) -> bytes:
    candidates = [f"i{i}" for i in rng.choice(items, CANDIDATES, replace=False)]
    return _http("/v1/rank", json.dumps(_shared(rng, users) | {"candidates": candidates} | more).encode())


def named(rng: np.random.Generator, users: int, items: int) -> bytes:
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


def tensor(rng: np.random.Generator, users: int, items: int) -> bytes:
    chosen, values = rng.choice(items, CANDIDATES, replace=False), rng.normal(size=(CANDIDATES, FEATURES))
    shared = _shared(rng, users)
    ids = b"".join(struct.pack("<I", len(one)) + one for one in (f"i{i}".encode() for i in chosen))
    block = values.astype("<f4").tobytes()
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
                    {"binary_data_size": len(block), "features": columns},
                ),
                _input("user", "BYTES", [1], {}) | {"data": [shared["entities"]["user"]]},
                _input("context", "FP64", [1, CONTEXT], {"features": ",".join(shared["features"]["context"])})
                | {"data": context},
            ]
        }
    ).encode()
    return _http(
        "/v2/models/shop/infer", head + ids + block, f"inference-header-content-length: {len(head)}\r\n"
    )


def _input(name: str, datatype: str, shape: list[int], parameters: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": parameters}


def _shared(rng: np.random.Generator, users: int) -> dict[str, Any]:
    context = {f"c{i}": float(value) for i, value in enumerate(rng.normal(size=CONTEXT).round(3))}
    return {"entities": {"user": f"u{rng.zipf(1.2) % users}"}, "features": {"context": context}}


def _http(path: str, body: bytes, headers: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body
