"""MovieLens 100K -> the table in README.md, by a training run with the example's configuration.

python benchmarks/movielens_table.py --data DIR     (DIR holds ml100k/)
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nearline.config import Config, read_config

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "examples/movielens/movielens.toml"
BEGIN, END = "<!-- movielens:begin -->", "<!-- movielens:end -->"
LABELS = {
    "fixed": "shared model alone",
    "+ per-user": "+ one model per user",
    "+ per-film": "+ one model per film",
}


def train(data: Path) -> dict[str, Any]:
    """What `nearline train --json` reports of each stage."""
    nearline = Path(sys.executable).with_name("nearline")
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "movielens.model"
        command = [nearline, "train", CONFIG, "--data", data, "--model", model, "--json"]
        done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own command
    document: dict[str, Any] = json.loads(done.stdout)
    stages: dict[str, Any] = document["stages"]
    return stages


def table(stages: Mapping[str, Any], config: Config) -> str:
    """The table in Markdown."""
    reference = config.evaluation.references[0]
    lines = [f"| model | AUC | {reference.name}'s AUC | log loss |", "|---|---:|---:|---:|"]
    for stage, scores in stages.items():
        auc, loss = scores["auc"]["mean"], scores["log_loss"]["mean"]
        known = reference.values[stage]
        lines.append(f"| {LABELS[stage]} | {auc:.4f} | {known:.4f} | {loss:.4f} |")
    return "\n".join(lines)


def replaced(text: str, between: str) -> str:
    """The text with `between` between the markers."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{between}\n{END}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder that holds ml100k/")
    new = table(train(parser.parse_args().data), read_config(CONFIG))
    readme = ROOT / "README.md"
    readme.write_text(replaced(readme.read_text(encoding="utf-8"), new), encoding="utf-8")
    print(new)


if __name__ == "__main__":
    main()
