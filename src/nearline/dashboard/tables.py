"""What was found of entities -> tables and charts."""

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

from nearline.clock import utc
from nearline.dashboard.entities import Drifter, Newcomer
from nearline.dashboard.entity import Entity, Example, Known
from nearline.dashboard.ranking import Shown
from nearline.dashboard.view import Chart, Link, Live, Series, Table
from nearline.evaluate.words import count, number

NONE: Final = "\u2013"


def entity_link(name: str) -> Link:
    """A link to the page of an entity."""
    return Link(name, f"entity?{urlencode({'name': name})}")


def newcomers_table(found: Sequence[Newcomer]) -> Table:
    """Entities with few rows."""
    rows = [(entity_link(one.name), one.effect, count(one.rows_learned), utc(one.shown_ms)) for one in found]
    columns = ("entity", "effect", "rows learned", "last shown (UTC)")
    return Table("newcomers", "New entities", columns, tuple(rows))


def drifters_table(found: Sequence[Drifter], loss: str) -> Table:
    """Entities that are predicted worse than before."""
    rows = [
        (
            entity_link(one.name),
            one.kind,
            count(one.rows),
            number(one.before, 3),
            number(one.lately, 3),
            number(one.standard_errors, 1),
        )
        for one in found
    ]
    columns = ("entity", "kind", "rows", f"{loss} before", "of the last 10", "rise in standard errors")
    return Table("drifters", "Drifting entities", columns, tuple(rows), empty="None by this rule.")


def of_entity(entity: Entity) -> Live:
    """What the page of an entity fetches again and again."""
    charts = tuple(
        chart for place, known in enumerate(entity.known) if (chart := moved_chart(known, place)) is not None
    )
    rows = sum(int(known.document["rows_learned"]) for known in entity.known)
    said = f"{entity.name}: {count(rows)} rows learned"
    return Live(
        said,
        (),
        (examples_table(entity.examples, entity.name), ranking_table(entity.ranking, entity.name)),
        charts,
    )


def moved_chart(known: Known, place: int) -> Chart | None:
    """How the coefficients furthest from the prior have moved over the versions that are kept."""
    if not known.moved:
        return None
    versions = [one["version"] for one in known.versions]
    names = [feature for feature, _ in reversed(known.moved)]
    lines = [means for _, means in reversed(known.moved)]
    rows = [
        (
            str(one["version"]),
            utc(one["as_of_ms"]),
            count(one["rows_learned"]),
            *(number(means[i], 3) for means in lines),
        )
        for i, one in reversed(list(enumerate(known.versions)))
    ]
    columns = ("version", "as of (UTC)", "rows learned", *names)
    identity = f"moved-{place}"
    return Chart(
        identity,
        "How they have moved",
        f"Means of the {len(lines)} coefficients furthest from the prior, over the versions kept.",
        tuple(map(float, versions)),
        tuple(Series(name, means) for name, means in zip(names, lines, strict=True)),
        Table(f"{identity}-numbers", "Versions kept, newest first", columns, tuple(rows)),
        is_time=False,
    )


def examples_table(examples: Sequence[Example], name: str) -> Table:
    """The last labelled rows of an entity."""
    effects = list(dict.fromkeys(part for one in examples for part in one.parts))
    rows = [
        (
            utc(one.impression.time_ms),
            _others(one.impression.entities, name),
            _label(one.label),
            _maybe(one.expected, 3),
            _maybe(one.loss, 3),
            *(_part(one.parts, part) for part in effects),
        )
        for one in examples
    ]
    columns = ("shown (UTC)", "with", "label", "expected", "loss", *effects)
    caption = "Its last labelled rows, as served: what each part added on the link scale"
    return Table("examples", caption, columns, tuple(rows), empty="None among the last rows.")


def ranking_table(shown: Sequence[Shown], name: str) -> Table:
    """The impressions of one request."""
    effects = list(dict.fromkeys(effect for one in shown for effect in one.impression.contributions))
    rows = [
        (
            str(one.rank),
            _others(one.impression.entities, name),
            number(one.expected, 3),
            _maybe(one.impression.propensity, 3),
            one.impression.policy or NONE,
            f"{number(one.linear, 2, sign=True)} \u00b1 {number(one.std, 2)}",
            number(one.impression.offset + one.impression.fixed, 2, sign=True),
            *(_contribution(one.impression.contributions.get(effect)) for effect in effects),
        )
        for one in shown
    ]
    columns = (
        "rank",
        "with",
        "expected",
        "propensity",
        "policy",
        "linear predictor",
        "offset + fixed effect",
        *effects,
    )
    return Table("ranking", "Its last request", columns, tuple(rows), empty="Not among the last events.")


def _others(entities: Mapping[str, str], name: str) -> str:
    """The other entities of an impression."""
    return ", ".join(f"{kind} {one}" for kind, one in entities.items() if one != name) or NONE


def _label(label: float) -> str:
    return f"{label:g}"


def _maybe(value: float | None, digits: int) -> str:
    return NONE if value is None else number(value, digits)


def _part(parts: Mapping[str, float], part: str) -> str:
    return number(parts[part], 2, sign=True) if part in parts else NONE


def _contribution(one: tuple[float, float] | None) -> str:
    return NONE if one is None else f"{number(one[0], 2, sign=True)} \u00b1 {number(one[1] ** 0.5, 2)}"
