"""How impressions and feedback become labelled examples: the choices, checked."""

import warnings
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from nearline.errors import ConfigError
from nearline.events.impression import MAX_TIME_MS

FeedbackPolicy: TypeAlias = Literal["first", "last", "max"]
WithoutFeedback: TypeAlias = Literal["zero", "skip"]
LearnAt: TypeAlias = Literal["close", "feedback"]


class EarlyLabelsWarning(UserWarning):
    """The settings learn the labels that come early before the others, which tilts what is learned."""


@final
@dataclass(frozen=True, slots=True)
class JoinSettings:
    """Choices of the join; all times are event times in milliseconds.

    Attributes
    ----------
    window_ms : the attribution window: feedback counts up to this long after its impression. An impression that
        says when its label will be known (`resolves_ms`) closes then instead.
    allowed_lateness_ms : how far the order of arrival may be off: event time, the watermark, is the latest time seen
        minus this.
    policy : which feedback counts where there are several: the first, the last, or that of the highest label.
    without_feedback : an impression that closes without feedback is learned with label 0, or not learned.
    learn_at : learn an impression when it closes, or as soon as it has feedback. The latter with
        ``without_feedback="zero"`` learns positives before the negatives of the same time, and warns.
    correct_within_ms : how long after the close a late feedback still corrects what was learned; 0: never.
    remember_ms : how long after the close an impression is still known, so that what comes for it again counts as
        duplicate or late; None: as long as the window. At least `correct_within_ms`.
    tick_ms : say to every partition that event time has passed a multiple of this; None: never.

    Raises
    ------
    ConfigError
        A value outside its range.
    """

    window_ms: int
    allowed_lateness_ms: int = 0
    policy: FeedbackPolicy = "last"
    without_feedback: WithoutFeedback = "zero"
    learn_at: LearnAt = "close"
    correct_within_ms: int = 0
    remember_ms: int | None = None
    tick_ms: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("window_ms", 0),
            ("allowed_lateness_ms", 0),
            ("correct_within_ms", 0),
            ("remember_ms", self.correct_within_ms),
            ("tick_ms", 1),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value < MAX_TIME_MS:
                raise ConfigError(f"join.{name}: expected {least} or more milliseconds, got {value}")
        for name, choices in (
            ("policy", ("first", "last", "max")),
            ("without_feedback", ("zero", "skip")),
            ("learn_at", ("close", "feedback")),
        ):
            if getattr(self, name) not in choices:
                raise ConfigError(f"join.{name}: expected one of {choices}, got {getattr(self, name)!r}")
        if self.learn_at == "feedback" and self.without_feedback == "zero":
            warnings.warn(
                'join.learn_at = "feedback" learns an answer at once and its absence only at the close, so that at '
                "any time answered impressions count too much: rates come out too high while traffic grows or "
                'evidence is forgotten. "close" learns both at the same age',
                EarlyLabelsWarning,
                stacklevel=3,
            )

    @property
    def kept_ms(self) -> int:
        """How long after its close an impression is kept."""
        return max(self.correct_within_ms, self.window_ms if self.remember_ms is None else self.remember_ms)
