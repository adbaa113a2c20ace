"""Expected responses under an uncertain linear predictor."""

from collections.abc import Sequence

from nearline.arrays import Floats

def expected_sigmoid(
    linear: Floats,
    variance: Floats,
    quadratures: Sequence[tuple[float, Floats, Floats]],
    shares: Floats,
    slopes: Floats,
    out: Floats,
) -> None:
    """Write E[sigmoid(eta)] for eta ~ N(linear, variance) into `out`, float64[n] each.

    By the first of `quadratures` (widest variance, nodes, weights; a list) that is wide enough, else by the mixture
    sum share * Phi(slope x) that stands for the sigmoid. Raises `ValueError` for arrays that do not fit.
    """
