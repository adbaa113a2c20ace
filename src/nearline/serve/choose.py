"""The name and parameter of a policy -> the policy."""

from typing import Final

from msgspec import UNSET

from nearline.bandit import EpsilonGreedy, Greedy, Policy, ThompsonSampling, UpperConfidenceBound
from nearline.errors import RequestError
from nearline.serve.request import PolicyChoice

POLICIES: Final = {"greedy": None, "epsilon-greedy": "epsilon", "ucb": "width", "thompson": "draws"}
"""Policies by name, and the parameter of each."""


def policy_of(choice: PolicyChoice, path: str = "$.policy") -> Policy:
    """Return the policy; raises a `RequestError` if there is none of that name, or it has no such parameter."""
    if choice.name not in POLICIES:
        raise RequestError(f"{path}.name", f"expected one of {', '.join(POLICIES)}, got {choice.name!r}")
    given = {name: getattr(choice, name) for name in ("epsilon", "width", "draws")}
    given = {name: value for name, value in given.items() if value is not UNSET}
    for name in given:
        if name != POLICIES[choice.name]:
            raise RequestError(f"{path}.{name}", f"policy {choice.name!r} has no such parameter")
    match choice.name:
        case "epsilon-greedy":
            return EpsilonGreedy(**given)
        case "ucb":
            return UpperConfidenceBound(**given)
        case "thompson":
            return ThompsonSampling(**given)
        case _:
            return Greedy()
