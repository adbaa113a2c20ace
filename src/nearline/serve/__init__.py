"""The scoring service: requests to rankings that are in the event log, in Python and over HTTP."""

from nearline.serve.answer import Answer
from nearline.serve.features import FeatureFunction
from nearline.serve.kept import KeptCandidates
from nearline.serve.limits import Limits
from nearline.serve.matrix import CandidateMatrix
from nearline.serve.reply import Ranked, Ranking, Scored, Scores
from nearline.serve.request import (
    Candidate,
    FeedbackItem,
    FeedbackRequest,
    KeptFeatures,
    PolicyChoice,
    RankRequest,
    ScoreRequest,
)
from nearline.serve.scorer import Scorer, ScorerSettings

__all__ = [
    "Answer",
    "Candidate",
    "CandidateMatrix",
    "FeatureFunction",
    "FeedbackItem",
    "FeedbackRequest",
    "KeptCandidates",
    "KeptFeatures",
    "Limits",
    "PolicyChoice",
    "RankRequest",
    "Ranked",
    "Ranking",
    "ScoreRequest",
    "Scored",
    "Scorer",
    "ScorerSettings",
    "Scores",
]
