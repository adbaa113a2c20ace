"""The nine public mixed models beside their published estimates: writes the tables of docs/reference-estimates.md.

python -m benchmarks.reference_estimates --data DIR
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import crossed_effects
from benchmarks.reference_models import OBJECTIVE, Line, Model, markdown, one_factor_models, published
from nearline.arrays import Floats
from nearline.batch.mixed_fit import MixedFit

PAGE = Path(__file__).parents[1] / "docs" / "reference-estimates.md"


def one_factor_lines(data: Path) -> list[Line]:
    """Every published quantity of the models with one grouping factor."""
    references = published(data)
    lines: list[Line] = []
    for name, model in one_factor_models(data).items():
        fit, reference = model.fit(), references[name]
        objective = reference["objective" if "objective" in reference else "objective_laplace"]
        lines.append(Line(name, OBJECTIVE, fit.minus_twice_log_likelihood, float(objective)))
        lines += _coefficient_lines(name, model, fit, reference)
        lines += _random_lines(name, model, fit, reference)
    return lines


def _coefficient_lines(name: str, model: Model, fit: MixedFit, reference: dict[str, Any]) -> list[Line]:
    beta = reference.get("beta_rechecked", reference.get("beta", []))
    errors = reference.get("se", [])
    return [
        *(Line(name, c, b, r) for c, b, r in zip(model.fixed, fit.coefficients, beta, strict=True)),
        *(
            Line(name, f"std. error of {c}", e, r)
            for c, e, r in zip(model.fixed, fit.standard_errors, errors, strict=False)
        ),
    ]


def _random_lines(name: str, model: Model, fit: MixedFit, reference: dict[str, Any]) -> list[Line]:
    theta = np.asarray(reference.get("theta", reference.get("theta_laplace")), dtype=np.float64)
    stds: Floats = np.asarray(reference.get("re_sd", theta * float(reference.get("sigma", 1.0))))
    lines = [
        Line(name, f"std of {r} by group", s, float(p))
        for r, s, p in zip(model.random, fit.random_std, stds, strict=True)
    ]
    if "re_corr" in reference:
        lines.append(Line(name, "correlation", float(fit.random_correlation[1, 0]), reference["re_corr"]))
    if fit.noise_std is not None and "sigma" in reference:
        lines.append(Line(name, "std of noise", fit.noise_std, reference["sigma"]))
    return lines


def tables(data: Path) -> dict[str, str]:
    """The tables of the page, by the name in their markers."""
    return {
        "one factor": markdown(one_factor_lines(data)),
        "two factors": markdown(crossed_effects.lines(data)),
    }


def insert(page: str, name: str, table: str) -> str:
    """The page with the table between the markers of this name replaced."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of public data sets")
    page = PAGE.read_text()
    for name, table in tables(parser.parse_args().data).items():
        page = insert(page, name, table)
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
