"""How large a request may be."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused beyond.

    Attributes
    ----------
    body_bytes : of one request over HTTP.
    candidates : of one request.
    features : of one candidate, and of what all candidates share; each over all bags.
    name_bytes : of ids, names of entities, bags and features, in UTF-8.
    items : of one request for feedback, and candidates of one that has features kept.
    """

    body_bytes: int = 4 << 20
    candidates: int = 1_000
    features: int = 1_000
    name_bytes: int = 256
    items: int = 1_000
