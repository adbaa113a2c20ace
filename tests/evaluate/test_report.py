"""The report: one safe, self-contained, repeatable page."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from nearline import evaluate as ev
from nearline.errors import MissingExtraError
from nearline.posterior.outcomes import Outcome

NASTY = """<script>alert("x")</script> & 'café' 映画 $x_1$ #000101 id="a" --> ]]>"""


class Outline(HTMLParser):
    """Collects what the tests look at, and checks that every element is closed in order."""

    void = frozenset({"meta", "link", "path", "use"})

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.text = [], [], []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag

    def handle_data(self, text):
        self.text.append(text)

    def every(self, tag):
        return [attrs for name, attrs in self.seen if name == tag]


def evaluation(outcome=Outcome.BERNOULLI, *, entities=True, name="user"):
    rng = np.random.default_rng(0)
    prediction = rng.uniform(0.05, 0.95, 600)
    y = {
        Outcome.BERNOULLI: (rng.random(600) < prediction).astype(np.float64),
        Outcome.NORMAL: prediction + rng.normal(size=600),
        Outcome.POISSON: rng.poisson(prediction).astype(np.float64),
    }[outcome]
    codes = rng.integers(0, 30, 600)
    sizes = {name: ev.EntitySizes(codes, codes // 2)} if entities else {}
    found = ev.evaluate(
        y,
        prediction,
        None,
        outcome,
        sizes,
        rng,
        prediction_std=np.ones(600),
        baseline=np.full(600, y.mean()),
        resamples=20,
    )
    return found, ev.curves(y, prediction, None, outcome)


def full_report(name="user"):
    found, curves = evaluation(name=name)
    stages = (
        ev.Stage("fixed effect", {"auc": (0.61, 0.62, 0.63), "log_loss": (0.65, 0.66, 0.64)}),
        ev.Stage.of(f"+ per-{name}", found, found),
    )
    training = ev.Training(
        rows=80_000,
        entities={f"per-{name}": 943},
        seconds={"fixed effect": 0.4, f"per-{name}": 130.0},
        peak_memory_bytes=3 * 2**30,
        priors=(ev.PriorSummary(f"per-{name}", name, 0.1, 0.9),),
        strongest_features=(ev.FeatureWeight(name, -0.5),),
    )
    return ev.Report(
        title=f"Films for {name}",
        evaluation=found,
        curves=curves,
        stages=stages,
        references=(ev.Reference(f"Other {name}", "auc", {"fixed effect": 0.6237}, source="its README"),),
        effects=(
            ev.EffectDistribution(f"per-{name}", "posterior std", np.linspace(0.1, 1.0, 50), name, 1.0),
        ),
        training=training,
        about=name,
    )


def written(tmp_path, report):
    path = tmp_path / "report.html"
    ev.write_report(path, report)
    return path.read_text(encoding="utf-8")


def test_the_page_needs_no_other_file_and_no_network(tmp_path):
    page = written(tmp_path, full_report())
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page.replace("xlink:href", "href"))
    assert not re.search(r"url\((?!#)|@import|<script", page)
    addresses = set(re.findall(r"https?://[^\s\"<]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_same_report_is_the_same_bytes(tmp_path):
    assert written(tmp_path, full_report()) == written(tmp_path, full_report())


def test_the_page_is_well_formed_and_says_what_is_in_each_figure_and_table(tmp_path):
    outline = Outline(written(tmp_path, full_report()))
    identities = [attrs["id"] for _, attrs in outline.seen if "id" in attrs]
    assert len(identities) == len(set(identities))
    assert len(outline.every("svg")) == 6
    assert all(attrs["role"] == "img" and attrs["aria-label"].endswith(".") for attrs in outline.every("svg"))
    assert len(outline.every("table")) == len(outline.every("caption")) > 8
    assert all("scope" in attrs for attrs in outline.every("th"))
    assert len(outline.every("h1")) == 1


def test_figures_take_their_colours_from_the_page_so_that_it_can_be_dark(tmp_path):
    page = written(tmp_path, full_report())
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): (#\w+|\w+)", drawn)) <= {"none", "var"}
    used = set(re.findall(r"var\((--\w+)\)", drawn))
    for scheme in re.findall(r":root \{(.*?)\}", page, flags=re.DOTALL):
        assert used <= set(re.findall(r"(--\w+):", scheme))
    assert "prefers-color-scheme: dark" in page


def test_names_from_the_data_are_shown_as_they_are_and_never_run(tmp_path):
    page = written(tmp_path, full_report(NASTY))
    outline = Outline(page)
    assert not outline.every("script")
    assert f"Films for {NASTY}" in "".join(outline.text)
    assert any(NASTY in text for text in outline.text if text.startswith(f"AUC within {NASTY}"))
    assert "$x_1$" in "".join(re.findall(r"<text.*?</text>", page, flags=re.DOTALL))


def test_stages_have_the_mean_and_the_spread_over_seeds_and_the_reference_beside_it(tmp_path):
    page = re.sub(r"\s+", " ", written(tmp_path, full_report()))
    assert "0.6200 ± 0.0100</td><td>0.6237" in page
    assert "over 3 seeds" in page


def test_the_first_paragraph_says_how_good_the_model_is(tmp_path):
    report = full_report()
    auc = 100.0 * report.evaluation.overall.find("auc").estimate.value
    said = written(tmp_path, report).replace("\u00a0", " ")
    assert f"the model ranks the right one first {auc:.1f} % of the time (95 % interval" in said
    assert "resamples of whole entities (user)" in said


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (Outcome.BERNOULLI, "ranks the right one first"),
        (Outcome.NORMAL, "as a root mean square. Its 95 % intervals hold"),
        (Outcome.POISSON, "For every 100 events it predicts"),
    ],
)
@pytest.mark.parametrize("entities", [False, True])
def test_every_outcome_has_a_report_with_nothing_but_its_evaluation_and_curves(
    tmp_path, outcome, said, entities
):
    found, curves = evaluation(outcome, entities=entities)
    page = written(tmp_path, ev.Report("A model", found, curves)).replace("\u00a0", " ")
    Outline(page)
    assert said in page
    assert "What each stage adds" not in page


def test_a_metric_that_is_undefined_is_said_to_be(tmp_path):
    p = np.linspace(0.1, 0.9, 50)
    sizes = {"user": ev.EntitySizes(np.arange(50), np.zeros(50, dtype=np.int64))}
    rng = np.random.default_rng(0)
    found = ev.evaluate(np.ones(50), p, None, Outcome.BERNOULLI, sizes, rng, resamples=5)
    page = written(
        tmp_path, ev.Report("One class", found, ev.curves(np.ones(50), p, None, Outcome.BERNOULLI))
    )
    assert "Only one of the two outcomes occurs" in page
    assert "n/a" in page
    assert "nan" not in page


def test_without_the_extra_the_error_is_the_command_that_installs_it(tmp_path, monkeypatch):
    for module in ("nearline.evaluate.page", "nearline.evaluate.figures"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"nearline\[report\]"):
        ev.write_report(tmp_path / "report.html", full_report())


def test_evaluating_does_not_import_what_only_the_report_needs():
    code = "import sys, nearline.evaluate; sys.exit('matplotlib' in sys.modules or 'jinja2' in sys.modules)"
    finished = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603 - our own code
    assert finished.returncode == 0
