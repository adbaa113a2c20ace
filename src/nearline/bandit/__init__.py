"""Exploration: candidates with their beliefs to rankings with propensities; logs with propensities to estimates."""

from nearline.bandit.candidates import Candidates, EffectTerm, Term
from nearline.bandit.keys import entity_keys, request_key
from nearline.bandit.policies import EpsilonGreedy, Greedy, Policy, ThompsonSampling, UpperConfidenceBound
from nearline.bandit.ranking import Ranking, top

__all__ = [
    "Candidates",
    "EffectTerm",
    "EpsilonGreedy",
    "Greedy",
    "Policy",
    "Ranking",
    "Term",
    "ThompsonSampling",
    "UpperConfidenceBound",
    "entity_keys",
    "request_key",
    "top",
]
