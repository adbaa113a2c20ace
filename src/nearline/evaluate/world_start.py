"""The history of a simulated world and the model trained on it -> a deployment that can go on from there."""

from pathlib import Path

from nearline.evaluate.world import World
from nearline.evaluate.world_history import history_events
from nearline.events.log import EventLog
from nearline.events.wire import encode_event
from nearline.model.game import GameModel
from nearline.store.seam import ModelStore
from nearline.stream.join import Join
from nearline.stream.join_routes import route_by_entity
from nearline.stream.join_settings import JoinSettings
from nearline.stream.joined_log import JoinedLog
from nearline.stream.published import positions_in, publish


def begin(
    world: World, model: GameModel, log: EventLog, store: ModelStore, folder: Path, settings: JoinSettings
) -> None:
    """Put the history into an empty log, join it in `folder`, and make the model live that has learned it."""
    log.append([encode_event(event) for event in history_events(world)])
    route = route_by_entity({effect.name: effect.kind for effect in model.random}, store.partitions)
    rows = JoinedLog(folder / "joined")
    try:
        rows.join(Join(settings, route), log.read(0, log.end()), world.start_ms)
        positions = positions_in(rows, store.partitions, has_learned_all=True)
    finally:
        rows.close()
    start_ms = world.start_ms
    first = publish(store, model, created_ms=start_ms, as_of_ms=start_ms, positions=positions)
    store.switch(first.number)
