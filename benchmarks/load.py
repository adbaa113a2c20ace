"""Requests over HTTP at a fixed rate, whether or not the server keeps up: `python -m benchmarks.load URL FILE ...`.

An open loop: request i is due at i / rate, and its latency counts from when it was due, so a server that stalls is
charged for everybody who would have waited (no coordinated omission). A closed loop, without a rate, says how many a
second the server answers at most. The bodies are read from a file, one request after the other, each with its length
before it, and sent round and round.
"""

import argparse
import asyncio
import json
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import cast

import numpy as np
import uvloop

CONNECTIONS = 64


class Connection(asyncio.Protocol):
    """One kept-alive connection: a request at a time."""

    def __init__(self, load: "Load") -> None:
        self.load = load
        self.due = 0.0
        self.left = -1
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # that of uvloop is none by its type

    def ask(self, request: bytes, due: float) -> None:
        """Send a request that was due then."""
        self.due, self.left, self.head = due, -1, b""
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Count the reply once all of it is there."""
        if self.left < 0:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            lines = self.head[:end].lower()
            at = lines.index(b"content-length:") + 15
            size = int(lines[at : at + 20].split(b"\r\n", 1)[0])
            self.left = size - (len(self.head) - end - 4)
            self.load.statuses[int(self.head[9:12])] = self.load.statuses.get(int(self.head[9:12]), 0) + 1
        else:
            self.left -= len(data)
        if self.left == 0:
            self.load.answered(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - of the protocol
        """End: the server was not to close."""
        self.load.lost += not self.load.done


class Load:
    """Requests in the order in which they are due, over whichever connection is free."""

    def __init__(self, requests: list[bytes], rate: float | None, seconds: float) -> None:
        self.requests, self.rate, self.seconds = requests, rate, seconds
        self.free: deque[Connection] = (
            deque()
        )  # each in its turn: the server closes one that is idle for long
        self.waiting: deque[tuple[bytes, float]] = deque()
        self.latencies: list[float] = []
        self.statuses: dict[int, int] = {}
        self.sent, self.lost, self.done = 0, 0, False

    async def run(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            _, connection = await loop.create_connection(lambda: Connection(self), host, port)
            self.free.append(connection)
        self.begin = time.perf_counter()
        if self.rate is None:
            while self.free:
                self.send(self.free.popleft(), time.perf_counter())
            await asyncio.sleep(self.seconds)
        else:
            await self._paced(self.rate)
        self.done = True

    async def _paced(self, rate: float) -> None:
        total = int(rate * self.seconds)
        gaps = np.random.default_rng(1).exponential(1.0 / rate, total).cumsum()
        for due in (self.begin + gaps).tolist():
            while (now := time.perf_counter()) < due:
                await asyncio.sleep(max(0.0, min(due - now, 0.001)))
            if self.free:
                self.send(self.free.popleft(), due)
            else:
                self.waiting.append((self._next(), due))
        end = time.perf_counter() + 10.0
        while len(self.latencies) < total and time.perf_counter() < end:
            await asyncio.sleep(0.01)

    def send(self, connection: Connection, due: float) -> None:
        connection.ask(self._next(), due)

    def answered(self, connection: Connection) -> None:
        now = time.perf_counter()
        self.latencies.append(now - connection.due)
        if self.done:
            return
        if self.rate is None:
            self.send(connection, now)
        elif self.waiting:
            request, due = self.waiting.popleft()
            connection.ask(request, due)
        else:
            self.free.append(connection)

    def _next(self) -> bytes:
        request = self.requests[self.sent % len(self.requests)]
        self.sent += 1
        return request


def read_requests(path: Path) -> list[bytes]:
    content, requests, at = path.read_bytes(), [], 0
    while at < len(content):
        (size,) = struct.unpack_from("<I", content, at)
        requests.append(content[at + 4 : at + 4 + size])
        at += 4 + size
    return requests


def write_requests(path: Path, requests: list[bytes]) -> None:
    path.write_bytes(b"".join(struct.pack("<I", len(one)) + one for one in requests))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("requests", type=Path)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=10.0)
    given = parser.parse_args()
    load = Load(read_requests(given.requests), given.rate, given.seconds)
    begun = time.process_time()
    uvloop.run(load.run(given.host, given.port))
    took = time.perf_counter() - load.begin
    latency = np.array(load.latencies) * 1e3
    found = {
        "sent": load.sent,
        "answered": len(latency),
        "statuses": load.statuses,
        "lost": load.lost,
        "per_second": len(latency) / min(took, given.seconds if given.rate is None else took),
        **{f"p{q}": float(np.percentile(latency, q)) for q in (50, 90, 99, 99.9)},
        "max": float(latency.max()),
        "busy": (time.process_time() - begun) / took,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
