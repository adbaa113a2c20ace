"""Names to the numbers that seed draws: the same in every process, on every platform, for ever.

The key of a name is the first 8 bytes of its BLAKE2b hash (RFC 7693), little-endian. Draws come from the counter-based
generator Philox4x64-10 (Salmon et al., SC 2011) under the key (request, entity), so that a draw is a function of these
names alone: not of the order of the candidates, of who else is a candidate, or of what was drawn before.
"""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

from nearline.arrays import Keys


def request_key(request: str) -> int:
    """Return the key of a request's id, 0 to 2^64 - 1; a retry under the same id has the same draws."""
    return _key(b"request\0" + request.encode())


def entity_keys(effect: str, entities: Sequence[str]) -> Keys:
    """Return the keys of entities of one effect, uint64[n]; worth keeping beside their beliefs."""
    begun = b"entity\0" + effect.encode() + b"\0"
    return np.array([_key(begun + entity.encode()) for entity in entities], dtype=np.uint64)


def _key(name: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")
