"""Records cut out of what they are kept in."""

def split_block(block: bytes, lengths: int, count: int, start: int, stop: int) -> list[bytes]:
    """Return records `start` up to `stop` of a block, or as many as it has.

    Parameters
    ----------
    lengths
        Where the lengths of all records begin, uint32[count], little endian; the records follow them.

    Raises
    ------
    ValueError
        The block is too short for that.
    """

def split_rows(rows: list[bytes], header: int) -> tuple[bytes, list[bytes]]:
    """Return the first `header` bytes of all rows together, and the rest of each; up to a row with fewer bytes."""
