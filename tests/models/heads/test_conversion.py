"""Heads from scikit-learn and torch: exact where they can be, measured where not, and refused where they cannot."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch import nn

from models.errors import DamagedBundle, HeadError
from models.heads.from_sklearn import from_sklearn
from models.heads.from_torch import from_torch
from models.heads.layers import Head, Linear, Polynomial, simplified
from models.heads.polynomial import ACTIVATIONS, fit


def _data(classes: int, width: int = 12, count: int = 180) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    return random.normal(size=(count, width)) + 2 * np.eye(classes, width)[labels], labels


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        LinearSVC(),
        LinearDiscriminantAnalysis(),
        OneVsRestClassifier(LogisticRegression()),
        OneVsRestClassifier(SVC(kernel="poly", degree=2, coef0=0.5)),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(), PCA(6, whiten=True), LinearSVC()),
        make_pipeline(PCA(8), OneVsRestClassifier(SVC(kernel="poly", degree=2))),
    ],
    ids=lambda one: str(one).replace("\n", "")[:40],
)
def test_what_is_linear_or_quadratic_is_converted_exactly(estimator: Any, classes: int) -> None:
    x, y = _data(classes)
    found = from_sklearn(estimator.fit(x, y), features=x)
    assert found.score_error < 1e-8
    assert found.label_agreement == 1.0
    assert found.fits == ()
    assert found.head.classes == classes
    assert found.classes == tuple(str(n) for n in range(classes))


def test_a_quadratic_machine_needs_no_more_hidden_values_than_features() -> None:
    x, y = _data(2)
    found = from_sklearn(SVC(kernel="poly", degree=2, coef0=1.0).fit(x, y), features=x)
    first = found.head.layers[0]
    assert isinstance(first, Linear)
    assert first.weight.shape[0] <= 13
    assert found.score_error < 1e-8
    square = found.head.layers[1]
    assert isinstance(square, Polynomial)
    np.testing.assert_allclose(square.rms, np.sqrt((first.evaluate(x) ** 2).mean(axis=0)), rtol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_a_perceptron_is_fitted_and_its_error_is_told(activation: str) -> None:
    x, y = _data(3)
    estimator = MLPClassifier((8,), activation=activation, max_iter=150, random_state=0, early_stopping=True)
    found = from_sklearn(estimator.fit(x, y), features=x, degree=4)
    assert len(found.fits) == (activation != "identity")
    assert found.label_agreement > 0.85
    assert found.score_error < 3.0


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (LogisticRegression(), "not a fitted"),
        (RandomForestClassifier(3), "no sequence of linear and polynomial layers"),
        (SVC(kernel="rbf"), "kernel 'rbf'"),
        (SVC(kernel="poly", degree=3), "of degree 3"),
        (make_pipeline(MinMaxScaler(), LogisticRegression()), "'minmaxscaler' is a MinMaxScaler"),
    ],
)
def test_what_cannot_run_encrypted_is_refused_with_a_remedy(estimator: Any, message: str) -> None:
    x, y = _data(2)
    with pytest.raises(HeadError, match=message):
        from_sklearn(estimator if message == "not a fitted" else estimator.fit(x, y))
    with pytest.raises(HeadError, match="votes between pairs"):
        from_sklearn(SVC(kernel="poly", degree=2).fit(*_data(3)))


def test_a_perceptron_without_calibration_features_is_refused() -> None:
    x, y = _data(2)
    with pytest.raises(HeadError, match="Give calibration features"):
        from_sklearn(MLPClassifier((4,), max_iter=150, random_state=0, early_stopping=True).fit(x, y))


# torch


class _Squares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(self.a(x))
        return self.b(h * h)


class _Shortcut(_Squares):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        return self.b(h**2 + h)


def _settled(module: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(3):
            module(torch.randn(32, 12))
    return module.eval()


@pytest.mark.parametrize(
    ("module", "exact"),
    [
        (nn.Linear(12, 3), True),
        (_settled(_Squares()), True),
        (_settled(nn.Sequential(nn.BatchNorm1d(12), nn.Dropout(), nn.Linear(12, 4), nn.Linear(4, 3))), True),
        (nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3)), False),
        (nn.Sequential(nn.Linear(12, 6), nn.SiLU(), nn.Linear(6, 3), nn.Softmax(1)), False),
    ],
)
def test_torch_modules_are_traced(module: nn.Module, exact: bool) -> None:
    x, _ = _data(3)
    found = from_torch(module, features=x, degree=4)
    assert (found.fits == ()) == exact
    assert found.score_error < (1e-4 if exact else 1.0)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (_Shortcut(), "shortcut or branch"),
        (nn.Sequential(nn.Linear(12, 3), nn.Hardswish(), nn.Linear(3, 2)), "Hardswish"),
        (nn.Sequential(nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 2)), "Give calibration features"),
    ],
)
def test_torch_modules_that_are_no_head_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(HeadError, match=message):
        from_torch(module)


# Heads


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 5), st.integers(2, 4))
def test_tensors_and_layers_come_back(seed: int, depth: int, width: int, degree: int) -> None:
    random = np.random.default_rng(seed)
    layers: list[Any] = []
    for _ in range(depth):
        layers += [Linear(random.normal(size=(width, width)), random.normal(size=width))]
        layers += [Polynomial(tuple(random.normal(size=degree + 1)))]
    head = Head((*layers, Linear(random.normal(size=(2, width)), random.normal(size=2))))
    again = Head.from_tensors(*head.to_tensors())
    features = random.normal(size=(4, width))
    np.testing.assert_array_equal(again.evaluate(features), head.evaluate(features))
    assert np.abs(head.evaluate(np.clip(features, -1, 1))).max() <= head.bounds(1.0)[-1] * (1 + 1e-9)


def test_neighbouring_linear_layers_become_one() -> None:
    random = np.random.default_rng(0)
    layers = [Linear(random.normal(size=(5, 7)), random.normal(size=5)), Polynomial((0.3, 2.0))]
    layers += [Linear(random.normal(size=(2, 5)), random.normal(size=2))]
    (only,) = simplified(layers)
    x = random.normal(size=(4, 7))
    assert isinstance(only, Linear)
    hidden = 0.3 + 2.0 * (x @ layers[0].weight.T + layers[0].bias)
    np.testing.assert_allclose(x @ only.weight.T + only.bias, hidden @ layers[2].weight.T + layers[2].bias)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "end with a linear layer"),
        ((Polynomial((0.0, 0.0, 1.0)),), "end with a linear layer"),
        ((Linear(np.ones((2, 3)), np.ones(3)),), "bias of shape"),
        ((Linear(np.ones((2, 3)), np.ones(2)), Linear(np.ones((2, 3)), np.ones(2))), "takes 3 values"),
        ((Linear(np.full((2, 3), np.nan), np.ones(2)),), "not finite"),
        (
            (Linear(np.ones((2, 3)), np.ones(2)), Polynomial((0.0,) * 5 + (1.0,)), Linear(np.ones((2, 2)), np.ones(2))),
            "degree 5",
        ),
    ],
)
def test_layers_that_make_no_head_are_refused(layers: Any, message: str) -> None:
    with pytest.raises(HeadError, match=message):
        Head(layers)


def test_a_missing_tensor_is_named() -> None:
    tensors, layers = Head((Linear(np.ones((2, 3)), np.ones(2)),)).to_tensors()
    del tensors["head.0.bias"]
    with pytest.raises(DamagedBundle, match=r"head\.0\.bias"):
        Head.from_tensors(tensors, layers)


def test_a_fit_s_error_is_the_largest_on_its_interval_and_falls_with_the_degree() -> None:
    errors = [fit(ACTIVATIONS["tanh"], -3, 3, degree).largest_error for degree in (1, 3)]
    assert errors[1] < errors[0]
    exact = fit(lambda x: 1 - 2 * x + 3 * x**2, -1, 4, 2)
    np.testing.assert_allclose(exact.coefficients, (1, -2, 3), atol=1e-9)
    assert exact.largest_error < 1e-9
