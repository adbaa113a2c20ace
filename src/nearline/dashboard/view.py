"""What pages show, as values: numbers, tables, charts. Texts are plain; a template or a script escapes them."""

from typing import TypeAlias, final

from msgspec import Struct


@final
class Link(Struct, frozen=True):
    """A text that leads somewhere; `href` is relative to the page."""

    text: str
    href: str


Cell: TypeAlias = str | Link


@final
class Number(Struct, frozen=True):
    """One number of the present, in words; `about` says what it is, `meaning` of what or how it is meant."""

    id: str
    about: str
    text: str
    meaning: str


@final
class Table(Struct, frozen=True):
    """A caption, the heads of columns, and rows whose first cell is the head of the row.

    `total` : whether the last row adds up those before it. `empty` : what to say where there are no rows.
    """

    id: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    total: bool = False
    empty: str = "Nothing yet."


@final
class Series(Struct, frozen=True):
    """One line of a chart; None where there is no value."""

    label: str
    values: tuple[float | None, ...]


@final
class Chart(Struct, frozen=True):
    """Lines, the most important one last, with the table of their numbers.

    Attributes
    ----------
    heading, reading : what it shows, and how to read it.
    x : ascending, one for each value of every series: seconds since 1970 (UTC) if `is_time`.
    digits : decimals of the values. level : a horizontal line to compare with.
    """

    id: str
    heading: str
    reading: str
    x: tuple[float, ...]
    series: tuple[Series, ...]
    table: Table
    digits: int = 3
    level: float | None = None
    is_time: bool = True


@final
class Live(Struct, frozen=True):
    """What a page fetches again and again.

    `said` is what a screen reader is told now and then.
    """

    said: str
    numbers: tuple[Number, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
