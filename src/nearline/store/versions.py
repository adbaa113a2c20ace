"""The versions that are kept of an entity's record -> what each of them says."""

from typing import Any

import numpy as np

from nearline.model.belief import information
from nearline.model.effects import RandomEffect
from nearline.store.records import Records, select_records
from nearline.store.seeding import with_records


def versions_of(effect: RandomEffect, entity: str, kept: Records) -> list[dict[str, Any]]:
    """Each version of a record that is kept, oldest first."""
    return [
        {
            "version": int(kept.version[i]),
            "position": int(kept.position[i]),
            "as_of_ms": int(kept.as_of_ms[i]),
            "rows_learned": int(kept.rows[i]),
            "information_nats": information(
                with_records(effect, [entity], select_records(kept, np.array([i]))), entity
            ),
        }
        for i in range(len(kept))
    ]
