"""Columns to rows of JSON and MessagePack, by a template.

A row is fixed[0], the value of columns[0], fixed[1] and so on to fixed[-1], one more than there are columns. A column
is float64[rows], int64[rows], or a list of str, of int, or of bytes that are written as they are; float64[rows, m] is
m columns. Raises `ValueError` where lengths differ, `UnicodeEncodeError` for a text that UTF-8 cannot write.
"""

from typing import TypeAlias

from nearline.arrays import Floats, Ints

_Column: TypeAlias = Floats | Ints | list[str] | list[int] | list[bytes]

def json_rows(fixed: list[bytes], columns: list[_Column]) -> bytes:
    """The rows with commas between them; a number that is not finite is null."""

def message_pack_rows(fixed: list[bytes], columns: list[_Column]) -> list[bytes]:
    """Each row by itself."""

def joined_maps(first: bytes, maps: list[bytes]) -> list[bytes]:
    """Maps of MessagePack, of fewer than 65,536 entries: each with the entries of the first before its own.

    Raises `ValueError` for what is none.
    """
