"""The public mixed models whose estimates are known: their tables, formulas and published values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, final

import numpy as np
import pyarrow.csv
from numpy.typing import NDArray

from nearline.arrays import Floats
from nearline.batch.mixed import fit_mixed_model
from nearline.batch.mixed_fit import MixedFit
from nearline.posterior import Outcome

Table: TypeAlias = Mapping[str, NDArray[Any]]

FOLDER = "glmm_ref"
OBJECTIVE = "-2 log likelihood"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """One model with one grouping factor, as the arguments of `fit_mixed_model`."""

    x: Floats
    z: Floats
    y: Floats
    group: NDArray[Any]
    outcome: Outcome = Outcome.NORMAL
    weight: Floats | None = None
    covariance: Literal["full", "diagonal"] = "full"
    fixed: tuple[str, ...] = ("intercept",)
    random: tuple[str, ...] = ("intercept",)

    def fit(self) -> MixedFit:
        return fit_mixed_model(
            self.x,
            self.z,
            self.y,
            self.group,
            self.outcome,
            weight=self.weight,
            covariance=self.covariance,
        )


@final
@dataclass(frozen=True, slots=True)
class Line:
    """An estimate beside the published one; -2 log likelihoods and zeros differ by a difference, others by a share."""

    model: str
    quantity: str
    ours: float
    published: float

    @property
    def difference(self) -> str:
        if self.quantity == OBJECTIVE or self.published == 0.0:
            return f"{round(self.ours - self.published, 3) + 0.0:+.3f}"
        return f"{round(self.ours / self.published - 1.0, 4) + 0.0:+.2%}"


def markdown(lines: Sequence[Line]) -> str:
    """A table of the lines; the name of a model is given once."""
    rows = ["| model | quantity | ours | published | difference |", "|---|---|---:|---:|---:|"]
    before = ""
    for line in lines:
        digits = 8 if line.quantity == OBJECTIVE else 5
        name = line.model if line.model != before else ""
        numbers = f"{line.ours:.{digits}g} | {line.published:.{digits}g} | {line.difference}"
        rows.append(f"| {name} | {line.quantity} | {numbers} |")
        before = line.model
    return "\n".join(rows)


def read_table(data: Path, name: str) -> Table:
    """One file of the reference folder, by column."""
    table = pyarrow.csv.read_csv(data / FOLDER / name)
    return {column: table[column].to_numpy() for column in table.column_names}


def published(data: Path) -> dict[str, dict[str, Any]]:
    """The published estimates, by model."""
    references: dict[str, dict[str, Any]] = json.loads((data / FOLDER / "REFERENCE.json").read_text())
    return {name: value for name, value in references.items() if not name.startswith("_")}


def one_factor_models(data: Path) -> dict[str, Model]:
    """The seven models with one grouping factor, by the names of the published estimates."""
    return {
        **_sleepstudy(read_table(data, "lme4_sleepstudy.csv")),
        "dyestuff": _dyestuff(read_table(data, "lme4_Dyestuff.csv")),
        "dyestuff2": _dyestuff(read_table(data, "lme4_Dyestuff2.csv")),
        "cbpp": _cbpp(read_table(data, "lme4_cbpp.csv")),
        "contraception": _contraception(read_table(data, "mlmRev_Contraception.csv")),
    }


def _sleepstudy(table: Table) -> dict[str, Model]:
    """Reaction times (ms) of 18 people over ten days of too little sleep (Belenky et al. 2003)."""
    y, group = table["Reaction"].astype(np.float64), table["Subject"]
    x = np.column_stack([np.ones(len(y)), table["Days"]])
    both = ("intercept", "days")
    return {
        "sleepstudy_ri": Model(x, x[:, :1], y, group, fixed=both),
        "sleepstudy_corr": Model(x, x, y, group, fixed=both, random=both),
        "sleepstudy_zerocorr": Model(x, x, y, group, covariance="diagonal", fixed=both, random=both),
    }


def _dyestuff(table: Table) -> Model:
    """Yields of six batches of dyestuff, measured and simulated (Davies 1972; Box and Tiao 1973)."""
    one = np.ones((len(table["Yield"]), 1))
    return Model(one, one, table["Yield"].astype(np.float64), table["Batch"])


def _cbpp(table: Table) -> Model:
    """New cases of contagious bovine pleuropneumonia by herd and period (Lesnoff et al. 2004)."""
    size, period = table["size"].astype(np.float64), table["period"]
    x = np.column_stack([np.ones(len(size)), *(period == k for k in (2, 3, 4))]).astype(np.float64)
    names = ("intercept", "period 2", "period 3", "period 4")
    share = table["incidence"] / size
    return Model(x, x[:, :1], share, table["herd"], Outcome.BERNOULLI, weight=size, fixed=names)


def _contraception(table: Table) -> Model:
    """Use of contraception by women in Bangladesh, grouped by district and by town or country in it."""
    age, urban, children = table["age"], table["urban"], table["livch"]
    columns = [np.ones(len(age)), age, age**2, urban == "Y", *(children == k for k in ("1", "2", "3+"))]
    names = ("intercept", "age", "age^2", "urban", "1 child", "2 children", "3+ children")
    place = np.array([f"{u}:{d}" for u, d in zip(urban, table["district"], strict=True)])
    x, y = np.column_stack(columns).astype(np.float64), (table["use"] == "Y").astype(np.float64)
    return Model(x, x[:, :1], y, place, Outcome.BERNOULLI, fixed=names)
