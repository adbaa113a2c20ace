"""The demos -> their tables: that of `nearline demo` in README.md, that of `nearline demo --replay` in docs/replay.md.

python -m benchmarks.demo_tables
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
BEGIN: Final = "<!-- demo:begin -->"
END: Final = "<!-- demo:end -->"
WHAT: Final = {
    "level 0": "trained once",
    "level 1": "everything refitted every tenth of the stream",
    "level 2": "random effects refitted every tenth",
    "window": "everything refitted on the last quarter, every tenth",
    "level 3": "each label learned once it is known",
    "level 3 + refits": "the same, with level 1's fixed effect and priors",
    "ideal": "everything refitted every fiftieth",
}


def document(*options: str) -> dict[str, Any]:
    """What `nearline demo --json` says."""
    nearline = Path(sys.executable).with_name("nearline")
    with tempfile.TemporaryDirectory() as folder:
        command = [str(nearline), "demo", "--out", folder, "--json", *options]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)  # noqa: S603 - our own command
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def loop_table(found: dict[str, Any]) -> str:
    """The closed loop in Markdown."""
    lines = [
        "| who chooses | clicks | of the truth's | regret, first quarter | last | observed / expected | old |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [f"| {' | '.join(arm['cells'])} |" for arm in found["arms"]]
    return "\n".join([*lines, "", f"{found['visits']:,} visits in {found['seconds']['visits']:.0f} seconds."])


def replay_table(found: dict[str, Any]) -> str:
    """The replayed levels in Markdown."""
    lines = [
        "| level | what is kept fresh | log loss | AUC | log loss above level 3 (95 % interval) | seconds |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, level in found["levels"].items():
        loss, auc = level["metrics"]["log_loss"], level["metrics"]["auc"]
        value, low, high = level["above_level_3"]["log_loss"]
        behind = "" if name == "level 3" else f"{value:+.4f} ({low:.4f} to {high:.4f})"
        lines.append(
            f"| {name} | {WHAT[name]} | {loss:.4f} | {auc:.3f} | {behind} | {level['seconds']:.1f} |"
        )
    return "\n".join(lines)


def write_between(page: Path, text: str) -> None:
    """Put the text between the markers of a page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Write both tables, or one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["loop", "replay"])
    only = parser.parse_args().only
    if only != "replay":
        write_between(ROOT / "README.md", text := loop_table(document()))
        print(text)
    if only != "loop":
        write_between(ROOT / "docs" / "replay.md", text := replay_table(document("--replay")))
        print(text)


if __name__ == "__main__":
    main()
