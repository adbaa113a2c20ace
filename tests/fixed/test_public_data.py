"""The linear fixed effect on public data: known accuracies, and scikit-learn on the same objective."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_array, hstack
from sklearn.datasets import load_svmlight_file
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score

from nearline.fixed.linear import fit_linear

pytestmark = pytest.mark.data


def libsvm(path: Path, features: int) -> tuple[csr_array, np.ndarray]:
    """Rows with an intercept in front, and labels 0 or 1."""
    with pa.input_stream(path, compression="zstd" if path.suffix == ".zst" else None) as stream:
        content = stream.read()
    x, y = load_svmlight_file(io.BytesIO(content), n_features=features)
    return csr_array(hstack([np.ones((x.shape[0], 1)), x])), (y > 0).astype(float)


def found(directory: Path, name: str) -> Path:
    return next(iter(sorted(directory.rglob(name))))


def test_a9a_is_predicted_as_well_as_published(data_directory):
    x, y = libsvm(found(data_directory, "a9a.zst"), 123)
    held_out, truth = libsvm(found(data_directory, "a9a.t.zst"), 123)
    fit = fit_linear(x, y, l2=1.0)
    assert fit.converged, fit.reason
    score = held_out @ fit.coefficients
    assert accuracy_score(truth, score > 0) >= 0.849
    assert roc_auc_score(truth, score) >= 0.902


@pytest.mark.parametrize("l2", [0.1, 1.0, 100.0])
def test_heart_gives_the_coefficients_of_scikit_learn(data_directory, l2):
    x, y = libsvm(found(data_directory, "heart.txt"), 13)
    held_out, _ = libsvm(found(data_directory, "heart_validation.txt"), 13)
    fit = fit_linear(x, y, l2=l2, tolerance=1e-13)
    peer = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-12).fit(x.toarray()[:, 1:], y)
    np.testing.assert_allclose(fit.coefficients, [*peer.intercept_, *peer.coef_[0]], atol=1e-6)
    scores = peer.decision_function(held_out.toarray()[:, 1:])
    np.testing.assert_allclose(held_out @ fit.coefficients, scores, atol=1e-6)
