"""Features as dicts to numbers."""

from collections.abc import Mapping, Sequence

from nearline.arrays import Floats

def read_alike(rows: Sequence[Mapping[str, object]], bag: str, keys: tuple[str, ...], out: Floats) -> bool:
    """Write the values of rows into `out`, float64[rows, keys], as long as each is {bag: {key: value, ...}}.

    Returns whether each has this one bag, with these keys in this order, and finite floats as values; if not, what
    is in `out` is of no use. Raises `ValueError` for an array of another size.
    """

def read_json_alike(rows: Sequence[object], bag: bytes, keys: list[bytes], out: Floats) -> bool:
    """Do the same of rows that are bytes of JSON; bag and keys are strings of JSON, with their quotes, without escapes.

    Refused besides are numbers that parsers of JSON read in different ways: -0, integers of more than 15 digits, and
    what a double cannot hold.
    """
