"""Measurements of public streams -> a page that holds them against what was asked."""

from typing import Any

BARS: dict[str, tuple[float, float | None]] = {
    "hotel_bookings": (0.750, 0.580),
    "talkingdata": (0.963, None),
    "tennis_wta": (0.748, 0.593),
    "movietweetings": (0.800, 0.545),
    "movielens100k": (0.772, 0.567),
    "assistments": (0.740, 0.551),
}
RATINGS_BAR = {"mae": 0.7486, "rmse": 0.9445}
WHY = {
    "hotel_bookings": [
        "Two things go together. What level 3 forgets was chosen on a first half that drifts fast: there, a country is",
        "best forgotten within 0.03 of the time. It serves the first sixths of the second half, better than level 2,",
        "and is too fast for the rest. And labels come months late, so that a row is learned given what was known of",
        "the others when it was served; `rescored` shows what that costs with these settings.",
    ]
}
RECOVERS = {"movielens100k", "movietweetings", "tennis_wta"}
CHOSEN, PLAIN, RESCORED = "level 3", "level 3, nothing forgotten", "level 3, rescored"
LEVELS = ("level 0", "level 2", PLAIN, CHOSEN, RESCORED, "ideal")


def written(results: dict[str, Any]) -> str:
    """The results as a page."""
    lines = [
        "# Level 3 on public streams\n",
        "Made by `python -m benchmarks.streams --data DIR`. The second half of each stream is scored first and",
        "learned later. One model is trained on the first half, where level 3 also chooses what it forgets, by rows",
        "scored before they were learned; nothing is chosen on the second half. Level 2 is refitted every tenth of",
        "the stream, the ideal every hundredth; both lag, so level 3 can recover more than all of the ideal's gain.\n",
        "| stream | rows | AUC | asked | log loss | asked | recovered | asked | below level 2 | rows a minute |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_judged(name, results[name]) for name in BARS if CHOSEN in results.get(name, {})]
    lines += [
        "\nRows a minute of processor time, level 3 alone, one core, through the whole stream.\n",
        "Every level, AUC / log loss of the second half:\n",
        "| stream | " + " | ".join(LEVELS) + " |",
        "|---|" + "---|" * len(LEVELS),
    ]
    lines += [_levels(name, results[name]) for name in BARS if name in results]
    lines += [
        "\n`rescored`: each effect learns a row given what is known of the others when its label comes, not when it",
        "was served. A worker cannot, and it matters only where labels come late.\n",
        "What the first half chose, time constants as parts of the time the stream takes, and factors on prior",
        "covariances:\n",
    ]
    lines += [
        f"- {name}: {described(results[name])}" for name in BARS if "time_constants" in results.get(name, {})
    ]
    for name in BARS:
        if "level 2" in results.get(name, {}) and CHOSEN in results[name]:
            lines += _behind(name, results[name])
    if "ratings" in results:
        one = results["ratings"]
        is_met = [_met(one[key] <= bar) for key, bar in RATINGS_BAR.items()]
        lines += [
            "\nMovieLens ratings by River's protocol, all 100,000 rows scored, from the first on:",
            f"MAE {one['mae']:.6f}, asked {RATINGS_BAR['mae']} ({is_met[0]});",
            f"RMSE {one['rmse']:.6f}, asked {RATINGS_BAR['rmse']} ({is_met[1]}).",
            "Nothing is trained before or forgotten. Priors are wide, as somebody would write them down who has seen",
            "no rating, and narrower by factors on the covariances of users and films. Predictions are averaged by",
            "how likely they made the rows before (`benchmarks/ratings.py`), so no row chooses its own prediction.",
            f"After {one['settled']:,} rows one of them has 99 % of the weight for good. Each by itself:\n",
            "| factor | MAE | RMSE |",
            "|---|---|---|",
            *(f"| {k} | {found['mae']:.6f} | {found['rmse']:.6f} |" for k, found in one["spreads"].items()),
            "\nRiver's own: bias model 0.7547 / 0.9541, BiasedMF 0.7486 / 0.9479.",
        ]
    return "\n".join(lines) + "\n"


def _judged(name: str, found: dict[str, Any]) -> str:
    """One stream against what was asked."""
    least, most = BARS[name]
    level = found[CHOSEN]
    loss, recovered, below = level["log_loss"], "-", "-"
    if "ideal" in found:
        gain = found["level 0"]["log_loss"] - found["ideal"]["log_loss"]
        recovered = f"{100 * (found['level 0']['log_loss'] - loss) / gain:.0f} %"
    if "level 2" in found:
        below = f"{found['level 2']['log_loss'] - loss:+.4f}"
    bar = "-" if most is None else f"{most} {_met(loss <= most)}"
    share = "85 %" if name in RECOVERS else "-"
    speed = 60 * found["rows"] / max(level["seconds"], 0.1)
    return (
        f"| {name} | {found['rows']:,} | {level['auc']:.6f} | {least} {_met(level['auc'] >= least)} | {loss:.6f} "
        f"| {bar} | {recovered} | {share} | {below} | {speed:,.0f} |"
    )


def _levels(name: str, found: dict[str, Any]) -> str:
    cells = (f"{found[k]['auc']:.4f} / {found[k]['log_loss']:.5f}" if k in found else "-" for k in LEVELS)
    return f"| {name} | " + " | ".join(cells) + " |"


def _behind(name: str, found: dict[str, Any]) -> list[str]:
    """Where in the second half level 3 is behind level 2, if it is."""
    if found[CHOSEN]["log_loss"] < found["level 2"]["log_loss"]:
        return []
    lines = [
        f"\nOn {name} level 3 is behind level 2. Log loss by sixths of the second half:\n",
        "| level | 1 | 2 | 3 | 4 | 5 | 6 |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {level} | " + " | ".join(f"{loss:.4f}" for loss in found[level]["sixths"]) + " |"
        for level in LEVELS
        if level in found
    ]
    return [*lines, "", *WHY.get(name, [])]


def _met(is_met: bool) -> str:
    return "met" if is_met else "**not met**"


def described(found: dict[str, Any]) -> str:
    """Time constants and spreads in words."""
    words = [f"{name} {part:g}" for name, part in found["time_constants"].items()]
    words += [f"{name} prior times {spread:g}" for name, spread in found["spreads"].items()]
    return ", ".join(words) or "nothing forgotten"
