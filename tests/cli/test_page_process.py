"""A report drawn by a process of its own is the report, and the process ends with whoever began it."""

import subprocess
import sys
from dataclasses import replace
from importlib import util

import numpy as np
import pytest

from nearline.cli.page_process import PageProcess
from nearline.errors import MissingExtraError
from nearline.evaluate import (
    EffectDistribution,
    EntitySizes,
    Report,
    Stage,
    Training,
    curves,
    evaluate,
)
from nearline.evaluate.report import renderer
from nearline.posterior import Outcome

BEGIN_AND_END = """
from nearline.cli.page_process import PageProcess
print(PageProcess()._process.pid)
"""


def report() -> Report:
    rng = np.random.default_rng(7)
    score = rng.uniform(size=400)
    y, weight = (rng.uniform(size=400) < score).astype(float), np.ones(400)
    sizes = {"user": EntitySizes(np.arange(400) % 20, np.full(400, 20))}
    found = evaluate(y, score, weight, Outcome.BERNOULLI, sizes, rng, resamples=10)
    effect = EffectDistribution("per-user", "intercept", rng.normal(size=20), "logit")
    return Report("<title>", found, curves(y, score, weight, Outcome.BERNOULLI), effects=(effect,))


def test_modules_of_the_folder_it_is_begun_in_are_not_its_own(tmp_path, monkeypatch) -> None:
    (tmp_path / "jinja2.py").write_text("raise RuntimeError('somebody else')")
    monkeypatch.chdir(tmp_path)
    with PageProcess() as drawing:
        drawing.begin(report())
        assert drawing.finish(report()).lower().startswith("<!doctype html>")


def test_the_page_is_that_of_the_same_report_drawn_here() -> None:
    draft = report()
    whole = replace(
        draft,
        stages=(Stage("fixed", {"auc": (0.7,)}),),
        training=Training(400, {"per-user": 20}, {"read": 1.0}),
    )
    with PageProcess() as drawing:
        drawing.begin(draft)
        assert drawing.finish(whole) == renderer()(whole)


def test_a_block_that_is_left_early_leaves_no_process() -> None:
    with PageProcess() as drawing:
        assert drawing._process.poll() is None
    assert drawing._process.returncode is not None


def test_a_process_whose_beginner_is_gone_ends() -> None:
    # Until nobody holds the other end of its standard error any more: so does the process that draws.
    begun = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", BEGIN_AND_END], capture_output=True, check=True, timeout=120
    )
    assert int(begun.stdout) > 0
    assert begun.stderr == b""


def test_a_process_that_fails_is_said_to_have_failed() -> None:
    with PageProcess() as drawing:
        drawing._process.kill()
        drawing._process.wait()
        drawing.begin(report())
        with pytest.raises(RuntimeError, match="ended with code -9"):
            drawing.finish(report())


def test_what_is_not_installed_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda _: None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"nearline\[report\]"):
        PageProcess()
