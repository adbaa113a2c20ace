"""Features as dicts to numbers."""

from collections.abc import Mapping, Sequence

from nearline.arrays import Floats

def read_alike(rows: Sequence[Mapping[str, object]], bag: str, keys: tuple[str, ...], out: Floats) -> bool:
    """Write the values of rows into `out`, float64[rows, keys], as long as each is {bag: {key: value, ...}}.

    Returns whether each has this one bag, with these keys in this order, and finite floats as values; if not, what
    is in `out` is of no use. Raises `ValueError` for an array of another size.
    """
