"""Candidates whose features the server keeps: in a folder, and as rows ready for each generation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

import msgspec
import numpy as np

from nearline.arrays import Csr, Floats, Ints
from nearline.environment import Environment
from nearline.errors import ModelError
from nearline.kernels._names import Names
from nearline.serve.design import Featured, dense_rows, fixed_scores, own_entries, sparse_rows
from nearline.serve.layout import Layout, list_keys
from nearline.serve.request import KeptFeatures

_DATABASE: Final = "candidates"
_AT_ONCE: Final = 1_000
_decoder = msgspec.msgpack.Decoder(KeptFeatures)


@final
class KeptRowsOf:
    """The rows of kept candidates for one generation (see `nearline.serve.design.KeptRows`)."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._fixed = np.zeros(0)
        self._dense: list[Floats | None] = [None for _ in layout.sizes]
        self._sparse: list[dict[int, tuple[Ints, Floats]]] = [{} for _ in layout.sizes]

    def put(self, slots: Sequence[int], kept: Sequence[KeptFeatures]) -> None:
        """Make the rows of these candidates."""
        for begin in range(0, len(slots), _AT_ONCE):
            here = slice(begin, begin + _AT_ONCE)
            self._put(np.array(slots[here], dtype=np.int64), [one.features for one in kept[here]])

    @property
    def fixed(self) -> Floats:
        """What the fixed effect says of each, without intercept, float64[slots]."""
        return self._fixed

    def dense(self, effect: int) -> Floats | None:
        """Their rows of a dense effect without its intercept, float64[slots, columns]; None where all are zero."""
        return self._dense[effect]

    def sparse(self, effect: int, slots: Ints) -> tuple[Ints, Ints, Floats]:
        """Place in `slots`, column and value of each of their entries of a sparse effect."""
        none = (np.zeros(0, np.int64), np.zeros(0))
        found = [self._sparse[effect].get(slot, none) for slot in slots.tolist()]
        place = np.repeat(np.arange(len(found)), [len(columns) for columns, _ in found])
        return (
            place,
            np.concatenate([none[0], *(f[0] for f in found)]),
            np.concatenate([none[1], *(f[1] for f in found)]),
        )

    def _put(self, slots: Ints, features: Sequence[dict[str, dict[str, float] | list[float]]]) -> None:
        layout, count = self._layout, len(slots)
        featured = Featured(count, {}, own_entries(layout, features, range(count), count))
        self._fixed = _grown(self._fixed, int(slots.max()) + 1)
        self._fixed[slots] = fixed_scores(layout, featured) - layout.fixed_intercept
        for effect in range(len(layout.sizes)):
            if layout.is_dense(effect):
                self._put_dense(effect, slots, dense_rows(layout, effect, featured).dense())
            else:
                self._put_sparse(effect, slots, sparse_rows(layout, effect, featured))

    def _put_dense(self, effect: int, slots: Ints, rows: Floats) -> None:
        rows[:, 0] = 0.0
        table = self._dense[effect]
        if table is None:
            if not rows.any():
                return
            table = np.zeros((0, rows.shape[1]))
        table = self._dense[effect] = _grown(table, len(self._fixed))
        table[slots] = rows

    def _put_sparse(self, effect: int, slots: Ints, rows: Csr) -> None:
        for i, slot in enumerate(slots.tolist()):
            here = slice(int(rows.indptr[i]) + 1, int(rows.indptr[i + 1]))  # the intercept is the first
            self._sparse[effect][slot] = rows.indices[here].astype(np.int64), rows.data[here].copy()


@final
class KeptCandidates:
    """Candidates by id; what was put is on disk when `put` returns, if there is a folder.

    One thread at a time: a scorer sees to that.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._slot = Names()
        self._name: list[str | None] = []
        self._kept: list[KeptFeatures | None] = []
        self._encoded: list[bytes] = []
        self._free: list[int] = []
        self._have_entities = False
        self.keys: dict[str, set[str]] = {}  # by bag those of all features that any candidate ever had
        self.puts = 0  # how often what is kept has changed
        self._rows: KeptRowsOf | None = None
        self._environment = None if folder is None else Environment(folder, [_DATABASE], refusal=ModelError)
        self.read_again()

    def __len__(self) -> int:
        return len(self._slot)

    @property
    def have_entities(self) -> bool:
        """Whether any has entities of its own."""
        return self._have_entities

    def get(self, name: str) -> KeptFeatures | None:
        """What is kept of a candidate."""
        return None if (slot := self._slot.get(name)) < 0 else self._kept[slot]

    def slots(self, names: Sequence[str]) -> tuple[Ints, int]:
        """Where candidates are until deleted, int64[names], -1 of one that is not kept; and how many are not."""
        slots = np.empty(len(names), np.int64)
        return slots, self._slot.find(names, slots)

    def at(self, slot: int) -> KeptFeatures:
        """What is kept there."""
        kept = self._kept[slot]
        assert kept is not None  # noqa: S101 - a slot that was found
        return kept

    def plain_slots(self, names: Sequence[object], longest: int) -> Ints | None:
        """Where candidates are; None where one is not kept, or not all are texts of at most so many bytes of UTF-8."""
        slots = np.empty(len(names), np.int64)
        return None if self._slot.find_plain(names, slots, longest) else slots

    def encoded(self, slot: int) -> bytes:
        """Its features as MessagePack, bag to features."""
        return self._encoded[slot]

    def put(self, candidates: Mapping[str, KeptFeatures]) -> None:
        """Keep these, instead of what was kept under their ids."""
        if self._environment is not None:
            values = [(_key(name), msgspec.msgpack.encode(one)) for name, one in candidates.items()]
            database = self._environment[_DATABASE]
            self._environment.write(lambda txn: txn.cursor(database).putmulti(values))
        self._remember(candidates)

    def delete(self, name: str) -> bool:
        """Keep a candidate no longer; whether it was there."""
        if self._slot.get(name) < 0:
            return False
        if self._environment is not None:
            database = self._environment[_DATABASE]
            self._environment.write(lambda txn: txn.delete(_key(name), db=database))
        self._forget(name)
        return True

    def read_again(self) -> None:
        """Take over what is in the folder, which another process may have changed."""
        if self._environment is None:
            return
        with self._environment.read() as txn:
            found = {
                key.decode(): _decoder.decode(value)
                for key, value in txn.cursor(self._environment[_DATABASE])
            }
        for name in [name for name in self._name if name is not None and name not in found]:
            self._forget(name)
        self._remember({name: one for name, one in found.items() if one != self.get(name)})

    def rows_of(self, layout: Layout) -> KeptRowsOf:
        """Their rows for a generation. `serve_with` makes them those that go on with what is put."""
        rows = KeptRowsOf(layout)
        kept = {slot: one for slot, one in enumerate(self._kept) if one is not None}
        rows.put(list(kept), list(kept.values()))
        return rows

    def serve_with(self, rows: KeptRowsOf) -> None:
        """These rows follow what is put from now on."""
        self._rows = rows

    def close(self) -> None:
        """Let go of the folder."""
        if self._environment is not None:
            self._environment.close()

    def _remember(self, candidates: Mapping[str, KeptFeatures]) -> None:
        self.puts += 1
        slots = []
        for name, kept in candidates.items():
            if (slot := self._slot.get(name)) < 0:
                slot = self._free.pop() if self._free else len(self._kept)
                self._slot.put(name, slot)
            if slot == len(self._kept):
                self._name.append(None)
                self._kept.append(None)
                self._encoded.append(b"")
            self._name[slot] = name
            self._kept[slot] = kept
            self._encoded[slot] = msgspec.msgpack.encode(kept.features)
            self._have_entities |= bool(kept.entities)
            for bag, one in kept.features.items():
                self.keys.setdefault(bag, set()).update(list_keys(one))
            slots.append(slot)
        if self._rows is not None and slots:
            self._rows.put(slots, list(candidates.values()))

    def _forget(self, name: str) -> None:
        slot = self._slot.remove(name)
        self._name[slot] = self._kept[slot] = None
        self._free.append(slot)


def _key(name: str) -> bytes:  # at most 256 bytes: `Limits.name_bytes`
    return name.encode()


def _grown(table: Floats, rows: int) -> Floats:
    """The table with room for so many rows, at least; zeros are added."""
    if rows <= len(table):
        return table
    return np.concatenate([table, np.zeros((max(rows, 2 * len(table)) - len(table), *table.shape[1:]))])
