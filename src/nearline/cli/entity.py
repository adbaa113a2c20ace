"""One entity of one effect: its belief in words and numbers."""

import math
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from nearline.cli.console import Output
from nearline.model.belief import OWN_ROWS


def show(document: dict[str, Any], output: Output) -> None:
    """Show what `describe` returns."""
    title = (
        f"{document['effect']}: {document['kind']} {document['entity']}, {document['rows_learned']:,} rows learned, "
        f"{document['information_nats']:.1f} nats"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("\ncoefficient")
    for column in ("\nmean", "\nstd", "away from\nprior", "prior\nmean", "prior\nstd"):
        table.add_column(column, justify="right")
    table.add_column("\nfrom")
    for row in document["coefficients"]:
        away = (row["mean"] - row["prior_mean"]) / row["std"] if row["std"] > 0 else math.nan
        table.add_row(
            row["feature"],
            f"{row['mean']:+.3f}",
            f"{row['std']:.3f}",
            f"{away:+.1f} std",
            f"{row['prior_mean']:+.3f}",
            f"{row['prior_std']:.3f}",
            "own rows" if row["from"] == OWN_ROWS else "prior alone",
        )
    output.table(table)
    if document["more"]:
        output.line(f"{document['more']} more coefficients; show them with --top")
