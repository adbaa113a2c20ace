"""Small data sets whose mixed models have published estimates (lme4, MixedModels.jl)."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from nearline.arrays import ArrowArray
from nearline.batch.tables import TableMapping
from nearline.datasets.raw import Dataset, delimited, raw_bytes

_FOLDER = "glmm_ref"

FILES: Mapping[str, str] = {
    "dyestuff": "lme4_Dyestuff.csv",
    "dyestuff2": "lme4_Dyestuff2.csv",
    "pastes": "lme4_Pastes.csv",
    "penicillin": "lme4_Penicillin.csv",
    "sleepstudy": "lme4_sleepstudy.csv",
    "cbpp": "lme4_cbpp.csv",
    "contraception": "mlmRev_Contraception.csv",
    "s3bbx": "mlmRev_s3bbx.csv",
}
"""Data set to its file; `s3bbx` comes with the first of the responses simulated for it (`s3bby`)."""

_MAPPINGS = {
    "dyestuff": TableMapping("Yield", entities={"batch": "Batch"}, bags={"global": (), "batch": ()}),
    "dyestuff2": TableMapping("Yield", entities={"batch": "Batch"}, bags={"global": (), "batch": ()}),
    "pastes": TableMapping(
        "strength",
        entities={"batch": "batch", "sample": "sample"},
        bags={"global": (), "batch": (), "sample": ()},
    ),
    "penicillin": TableMapping(
        "diameter",
        entities={"plate": "plate", "sample": "sample"},
        bags={"global": (), "plate": (), "sample": ()},
    ),
    "sleepstudy": TableMapping(
        "Reaction", entities={"subject": "Subject"}, bags={"global": ("Days",), "subject": ("Days",)}
    ),
    "cbpp": TableMapping(
        "proportion", weight="size", entities={"herd": "herd"}, bags={"global": ("period",), "herd": ()}
    ),
    "contraception": TableMapping(
        "used",
        entities={"place": "place"},
        bags={"global": ("age", "age_squared", "urban", "livch"), "place": ()},
    ),
    "s3bbx": TableMapping(
        "response",
        entities={"family": "family", "community": "community"},
        bags={"global": ("chldcov", "famcov", "commcov"), "family": (), "community": ()},
    ),
}


def load(directory: Path, name: str) -> Dataset:
    """Return one of `FILES`, with the columns of its file and those its model needs.

    sleepstudy: Reaction [ms] on Days. cbpp: proportion = incidence / size, weighted by size; period string.
    contraception: used (bool), age_squared, place (urban and district together). pastes: sample is the cask
    in its batch.
    """
    table = delimited(raw_bytes(directory, _FOLDER, FILES[name]), quotes=True)
    if name == "cbpp":
        table = _with_proportion(table)
    elif name == "contraception":
        table = _with_place(table)
    elif name == "s3bbx":
        responses = delimited(raw_bytes(directory, _FOLDER, "mlmRev_s3bby.csv"), quotes=True)
        table = table.append_column("response", responses["V1"])
    return Dataset(name=f"glmm_ref/{name}", table=table, mapping=_MAPPINGS[name])


def _with_proportion(table: pa.Table) -> pa.Table:
    proportion = pc.divide(table["incidence"].cast(pa.float64()), table["size"].cast(pa.float64()))
    period = table["period"].cast(pa.string())
    table = table.set_column(table.column_names.index("period"), "period", period)
    return table.append_column("proportion", proportion)


def _with_place(table: pa.Table) -> pa.Table:
    urban: ArrowArray = table["urban"]
    place = pc.binary_join_element_wise(urban, table["district"].cast(pa.string()), pa.scalar(":"))
    table = table.append_column("used", pc.equal(table["use"], pa.scalar("Y")))
    table = table.append_column("age_squared", pc.multiply(table["age"], table["age"]))
    return table.append_column("place", place)
