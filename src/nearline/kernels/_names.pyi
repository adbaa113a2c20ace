"""Names to numbers, many at once."""

from collections.abc import Sequence
from typing import final

from nearline.arrays import Ints

@final
class Names:
    """A table of names and their numbers, which are 0 or more."""

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def get(self, name: str) -> int:
        """The number of a name, -1 if it is not here."""

    def put(self, name: str, number: int) -> None:
        """Give a name a number; a `ValueError` if UTF-8 cannot write it or the number is negative."""

    def remove(self, name: str) -> int:
        """Forget a name; the number that it had, -1 if it was not here."""

    def find(self, names: Sequence[str], out: Ints) -> int:
        """Write the number of each name into `out`, int64[names], -1 of one that is not here; return how many."""

    def find_plain(self, names: Sequence[object], out: Ints, longest: int) -> int:
        """The same; -1 where not all are str of at most `longest` bytes of UTF-8."""

def siphash_2_4(key: bytes, text: bytes) -> int:
    """The hash with more rounds than names have, to be held to its authors' figures; the key has 16 bytes."""

def hash_here(text: bytes) -> int:
    """The hash that names have in this process, and in no other."""

def read_texts(content: bytes) -> list[str]:
    """Texts of UTF-8, each after its length in four bytes, the lowest first.

    Raises `ValueError` where a length reaches beyond the end, `UnicodeDecodeError` for what is not UTF-8.
    """
