"""When records were appended is what the appends said, wherever a read begins and ends."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nearline.environment import Environment
from nearline.errors import LogError
from nearline.events.blocks import BLOCK_BYTES, append_in, appended_in, read_in

APPENDS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2**40)), min_size=1, max_size=6)


@given(appends=APPENDS, after=st.integers(0, 30), limit=st.integers(1, 40), is_large=st.booleans())
def test_each_record_has_the_time_of_its_append(appends, after, limit, is_large):
    record = b"x" * (BLOCK_BYTES // 2 if is_large else 3)  # large ones: an append makes several blocks
    times = [now_ms for count, now_ms in appends for _ in range(count)]
    after = min(after, len(times))
    with tempfile.TemporaryDirectory() as folder:
        environment = Environment(Path(folder), ["rows"], refusal=LogError)
        rows = environment["rows"]
        for partition in (0, 1):
            for count, now_ms in appends:
                environment.write(
                    lambda txn, p=partition, n=count, t=now_ms: append_in(txn, rows, p, [record] * n, t + p)
                )
        with environment.read() as txn:
            for partition in (0, 1):
                found = appended_in(txn, rows, partition, after, limit)
                assert len(found) == len(read_in(txn, rows, partition, after, limit))
                assert found.tolist() == [time + partition for time in times[after : after + limit]]
        environment.close()
