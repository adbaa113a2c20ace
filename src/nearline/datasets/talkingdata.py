"""TalkingData: 100,000 clicks on mobile advertisements, 227 of them followed by an install, November 2017."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nearline.arrays import ArrowArray
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import Dataset, delimited, raw_bytes, sorted_by

_FOLDER = "talkingdata"
_IDENTIFIERS = ("ip", "app", "device", "os", "channel")
_MAPPING = TableMapping(
    response="is_attributed",
    time="click_time",
    entities={"app": "app", "channel": "channel", "ip": "ip"},
    bags={"global": ("hour", "os", "device"), "app": (), "channel": (), "ip": ()},
)


def load(directory: Path) -> Dataset:
    """Return the clicks in the order of time (to the minute), ties as in the file.

    Columns: ip (the user), app (the advertiser), device, os, channel (the publisher) string; click_time
    timestamp[s]; is_attributed int64, 1 for an install; hour string ("0" to "23"). The time of the install is
    left out: it is known only of installs.
    """
    content = raw_bytes(directory, _FOLDER, "train_sample.csv")
    table = delimited(content, text=[*_IDENTIFIERS, "click_time"]).drop_columns(["attributed_time"])
    times: ArrowArray = pc.strptime(table["click_time"], format="%Y-%m-%d %H:%M", unit="s")
    table = table.set_column(table.column_names.index("click_time"), "click_time", times)
    hours: ArrowArray = pc.hour(times)
    table = table.append_column("hour", hours.cast(pa.string()))
    return Dataset(name="talkingdata", table=sorted_by(table, "click_time"), mapping=_MAPPING)
