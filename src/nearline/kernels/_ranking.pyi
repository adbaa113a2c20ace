"""Rows sorted by score, and many weightings of them, to metrics of each weighting."""

from nearline.arrays import Floats, Ints

def ranking_measures(weight: Floats, order: Ints, ends: Ints, y: Floats, score: Floats, bins: int) -> Floats:
    """Return the area under the ROC curve, the average precision and the calibration error in `bins` bins.

    The result is [weightings, 3], NaN where a metric is not defined; `weight` is [weightings, rows]. In the `order`
    of falling score, `y` [rows] are the labels and `ends` the places of the last row of each distinct `score`.
    ValueError where these do not fit one another.
    """
