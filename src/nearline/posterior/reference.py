"""The update again, slow and obvious: the answer the kernels are held to.

One entity, dense matrices, textbook Newton with halving on the objective itself. Nothing here is fast and
nothing here is shared with the kernels but the outcome families.
"""

import numpy as np

from nearline.arrays import Floats, Ints
from nearline.posterior import outcomes
from nearline.posterior.gaussian import Gaussian, discount
from nearline.posterior.outcomes import Outcome


def objective(
    b: Floats, belief: Gaussian, x: Floats, y: Floats, w: Floats, o: Floats, outcome: Outcome
) -> float:
    """sum_i w_i loss(y_i, o_i + x_i . b) + (b - m)' P (b - m) / 2."""
    away = b - belief.mean
    prior = np.diag(belief.precision) if belief.is_diagonal else belief.precision
    return float(w @ outcomes.loss(outcome, y, o + x @ b) + 0.5 * away @ prior @ away)


def gradient_and_hessian(
    b: Floats, belief: Gaussian, x: Floats, y: Floats, w: Floats, o: Floats, outcome: Outcome
) -> tuple[Floats, Floats]:
    """First and second derivatives of the objective, [d] and [d, d]."""
    eta = o + x @ b
    prior = np.diag(belief.precision) if belief.is_diagonal else belief.precision
    gradient = prior @ (b - belief.mean) - x.T @ (w * (y - outcomes.mean(outcome, eta)))
    hessian = prior + (x.T * (w * outcomes.curvature(outcome, eta))) @ x
    return gradient, hessian


def update(
    belief: Gaussian,
    x: Floats,
    y: Floats,
    outcome: Outcome,
    weight: Floats | None = None,
    offset: Floats | None = None,
) -> Gaussian:
    """Posterior mode and curvature there; a diagonal belief stays diagonal."""
    w = np.ones(len(y)) if weight is None else weight
    o = np.zeros(len(y)) if offset is None else offset
    b = belief.mean.copy()
    for _ in range(200):
        gradient, hessian = gradient_and_hessian(b, belief, x, y, w, o, outcome)
        step = np.linalg.solve(hessian, gradient)
        before, length = objective(b, belief, x, y, w, o, outcome), 1.0
        if float(gradient @ step) < 1e-24:
            break
        # Near the optimum the objective cannot resolve the gain any more, and full steps are safe.
        near = float(gradient @ step) < 1e-6
        while not near and objective(b - length * step, belief, x, y, w, o, outcome) > before:
            length /= 2.0
        b = b - length * step
    hessian = gradient_and_hessian(b, belief, x, y, w, o, outcome)[1]
    return Gaussian(b, np.diag(hessian).copy() if belief.is_diagonal else hessian)


def update_one_by_one(
    belief: Gaussian,
    population: Gaussian,
    x: Floats,
    y: Floats,
    time_ms: Ints,
    start_ms: int,
    time_constant_ms: float,
    outcome: Outcome,
) -> Gaussian:
    """Learn the rows in order of time, forgetting between any two: what time-based forgetting means."""
    now = start_ms
    for i in range(len(y)):
        keep = float(np.exp(-(int(time_ms[i]) - now) / time_constant_ms))
        belief = update(discount(belief, keep, population), x[i : i + 1], y[i : i + 1], outcome)
        now = int(time_ms[i])
    return belief
