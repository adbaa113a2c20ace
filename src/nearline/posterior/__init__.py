"""Gaussian beliefs about entities, and how evidence changes them."""

from nearline.posterior.blocks import Blocks, FeatureRows, group_rows
from nearline.posterior.forgetting import Forgetting
from nearline.posterior.gaussian import Gaussian, discount
from nearline.posterior.outcomes import Outcome
from nearline.posterior.update import Status, Update, update_many, update_one

__all__ = [
    "Blocks",
    "FeatureRows",
    "Forgetting",
    "Gaussian",
    "Outcome",
    "Status",
    "Update",
    "discount",
    "group_rows",
    "update_many",
    "update_one",
]
