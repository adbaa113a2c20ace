"""The log, the row log and the store -> how far everything is: lag, counts, and each partition."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

from nearline.dashboard.deployment import Deployment
from nearline.stream.effect_learner import LearnCounts
from nearline.stream.join_state import Progress as JoinProgress
from nearline.stream.joined import row_time_ms
from nearline.stream.learner import PROGRESS_KEY, progress_of
from nearline.stream.roles import process_with


@final
@dataclass(frozen=True, slots=True)
class PartitionStanding:
    """How far the live generation is in one partition.

    Attributes
    ----------
    end, learned_to : positions of the last row there is, and of the last that was taken.
    counts : what became of the rows.
    learned_ms : event time of the last row that was taken; None before the first, or if it was trimmed.
    process : of the worker that learns it; None if none does, or it is not known.
    """

    partition: int
    end: int
    learned_to: int
    counts: LearnCounts
    learned_ms: int | None
    process: int | None

    @property
    def left(self) -> int:
        """Rows that are not learned yet."""
        return self.end - self.learned_to


@final
@dataclass(frozen=True, slots=True)
class DeploymentStanding:
    """How far a deployment is.

    Attributes
    ----------
    joined : how far the join is, and where every event went.
    events_left : events that are not joined yet.
    join_process : of the worker that joins; None if none does, or it is not known.
    """

    joined: JoinProgress
    events_left: int
    partitions: tuple[PartitionStanding, ...]
    join_process: int | None

    @property
    def rows_left(self) -> int:
        """Rows that are not learned yet."""
        return sum(one.left for one in self.partitions)

    @property
    def learned_ms(self) -> int | None:
        """Event time of the last row learned in any partition."""
        return max((one.learned_ms for one in self.partitions if one.learned_ms is not None), default=None)


def standing(deployment: Deployment, generation: int) -> DeploymentStanding:
    """How far a deployment is with a generation."""
    joined = deployment.rows.progress()
    return DeploymentStanding(
        joined,
        max(0, deployment.log.end() - joined.position),
        tuple(_partition(deployment, generation, p) for p in range(deployment.store.partitions)),
        _process(deployment.roles, "join"),
    )


def _partition(deployment: Deployment, generation: int, partition: int) -> PartitionStanding:
    rows = deployment.rows
    progress = progress_of(deployment.store.state(generation, partition, PROGRESS_KEY))
    end, position = rows.end(partition), progress.position
    last = rows.read(position - 1, 1, partition) if rows.begin(partition) <= position <= end else ()
    learned_ms = next((row_time_ms(row) for _, row in last), None)
    return PartitionStanding(
        partition,
        end,
        position,
        progress.counts,
        learned_ms,
        _process(deployment.roles, f"learn-{partition}"),
    )


def _process(roles: Path | None, name: str) -> int | None:
    return None if roles is None else process_with(roles, name)
