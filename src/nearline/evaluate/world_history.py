"""The history of a simulated world -> events, and the model that is trained on them."""

from typing import Final

import numpy as np

from nearline.batch.descent import fit_game
from nearline.batch.settings import FixedSettings, RandomSettings, TrainingSettings
from nearline.evaluate.world import Visit, World, item_name, user_name
from nearline.events.examples import to_examples
from nearline.events.impression import Event, Feedback, Impression, Tick
from nearline.model.game import GameModel

TRAINING: Final = TrainingSettings(
    fixed=FixedSettings(("of_item", "of_user", "of_visit")),
    random=(
        RandomSettings("per-user", "user", ("of_item",)),
        RandomSettings("per-item", "item", ("of_user",)),
    ),
)
"""The model of the world: the one its clicks come from, as far as a click says that somebody looked."""


def trained(world: World) -> GameModel:
    """Everything trained once on the history: level 1."""
    shown = list(world.history())
    impressions = [_impression(world, visit) for visit in shown]
    return fit_game(
        to_examples(impressions, np.array([_is_clicked(visit) for visit in shown]))[0], TRAINING
    ).model


def history_events(world: World) -> list[Event]:
    """The history as it came to a log, in the order of time; the last event says that it is over."""
    events: list[Event] = [Tick(world.start_ms)]
    for visit in world.history():
        events.append(impression := _impression(world, visit))
        if _is_clicked(visit):
            events.append(Feedback(impression.id, visit.time_ms + int(visit.delay_ms[0]), 1.0))
    return sorted(events, key=lambda event: event.time_ms)


def _impression(world: World, visit: Visit) -> Impression:
    item = int(visit.candidates[0])
    return Impression(
        f"history-{visit.number}",
        visit.time_ms,
        {"user": user_name(visit.user), "item": item_name(item)},
        {**world.features_of_visitor(visit), **world.features_of_item(item)},
        policy="by popularity",
    )


def _is_clicked(visit: Visit) -> float:
    return float(visit.clicks(np.zeros(1, np.int64))[0])
