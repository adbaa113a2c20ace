"""Hotel bookings: 119,390 of two hotels, 2013-17, 37 % cancelled; the outcome is known weeks later."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nearline.arrays import ArrowArray
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import Dataset, delimited, raw_bytes, sorted_by

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_KNOWN_LATER = (
    "reservation_status",
    "reservation_status_date",
    "assigned_room_type",
    "booking_changes",
    "days_in_waiting_list",
    "deposit_type",
    "adr",
)
_ABOUT_THE_BOOKING = (
    "hotel",
    "meal",
    "market_segment",
    "distribution_channel",
    "reserved_room_type",
    "customer_type",
    "arrival_date_month",
    "log_lead_time",
    "stays_in_weekend_nights",
    "stays_in_week_nights",
    "adults",
    "children",
    "babies",
    "is_repeated_guest",
    "previous_cancellations",
    "previous_bookings_not_canceled",
    "total_of_special_requests",
)
_MAPPING = TableMapping(
    response="is_canceled",
    time="shown_at",
    entities={"agent": "agent", "country": "country", "company": "company"},
    bags={"global": _ABOUT_THE_BOOKING, "agent": ("log_lead_time",), "country": (), "company": ()},
)


def load(directory: Path) -> Dataset:
    """Return the bookings in the order in which they were made, ties as in the file.

    Columns: is_canceled int64; shown_at date32, the day of the booking (arrival less lead time);
    label_known_at date32, the day the outcome was known (median 39 days later); agent, company int64 and
    country string, null where there is none; log_lead_time = log(1 + days from booking to arrival); the
    others as in the file, without what is known only later. `required_car_parking_spaces` is not in the
    mapping: no cancelled booking has any.
    """
    table = delimited(
        raw_bytes(directory, "hotel_bookings", "hotel_bookings.csv"), quotes=True, null=("", "NULL", "NA")
    )
    ended: ArrowArray = pc.strptime(table["reservation_status_date"], format="%m/%d/%Y", unit="s")
    lead = table["lead_time"].to_numpy()
    added = {
        "shown_at": pa.array(_arrivals(table) - lead.astype("timedelta64[D]")),
        "label_known_at": ended.cast(pa.date32()),
        "log_lead_time": pa.array(np.log1p(lead)),
    }
    table = table.drop_columns(list(_KNOWN_LATER))
    for name, column in added.items():
        table = table.append_column(name, column)
    return Dataset(name="hotel_bookings", table=sorted_by(table, "shown_at"), mapping=_MAPPING)


def _arrivals(table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.datetime64]]:
    """Return the days of arrival, datetime64[D]."""
    month: ArrowArray = pc.index_in(table["arrival_date_month"], value_set=pa.array(_MONTHS))
    months = (table["arrival_date_year"].to_numpy() - 1970) * 12 + month.to_numpy()
    days = months.astype("datetime64[M]").astype("datetime64[D]")
    return np.asarray(days + (table["arrival_date_day_of_month"].to_numpy() - 1).astype("timedelta64[D]"))
