"""Heads from scikit-learn and torch: exact where they can be, measured where not, and refused where they cannot."""

import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from torch import nn

from he_infer.head.layers import Head, Linear, Polynomial
from models.errors import HeadError, ProbabilitiesDiffer
from models.heads.from_sklearn import from_sklearn
from models.heads.from_torch import from_torch
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
def test_linear_and_quadratic_estimators_are_converted_exactly(estimator: Any, classes: int) -> None:
    x, y = _data(classes)
    estimator.fit(x, y)
    rest = classes > 2 and isinstance(estimator, OneVsRestClassifier) and hasattr(estimator, "predict_proba")
    with pytest.warns(ProbabilitiesDiffer) if rest else nullcontext():
        found = from_sklearn(estimator, features=x)
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
def test_perceptron_conversion_reports_its_fit_error(activation: str) -> None:
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
        (make_pipeline(Normalizer(), LogisticRegression()), "'normalizer' .Normalizer.: It cannot be computed"),
        (make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), "MinMaxScaler"),
    ],
)
def test_layer_without_encrypted_form_is_refused_with_remedy(estimator: Any, message: str) -> None:
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


class _Function(nn.Module):
    """A function of one's own between two linear layers."""

    def __init__(self, middle: Any, last: nn.Module | None = None) -> None:
        super().__init__()
        self.a, self.b, self.middle = nn.Linear(12, 6), last or nn.Linear(6, 3), middle

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.middle(self.a(x)))


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
        (nn.Sequential(nn.Linear(12, 3), nn.LayerNorm(3), nn.Linear(3, 2)), "'1' is a LayerNorm"),
        (nn.Sequential(nn.Linear(12, 3), nn.Softmax(1), nn.Linear(3, 2)), "softmax stands before the step '_2'"),
        (nn.Sequential(nn.Linear(12, 3), nn.LogSoftmax(1), nn.ReLU()), "log softmax stands before"),
        (_Function(lambda h: torch.softmax(h, 1)), "softmax stands before"),
        (nn.Sequential(nn.Linear(12, 3), nn.Softmax(0)), "over axis 0"),
        (nn.Sequential(nn.Linear(12, 3), nn.Sigmoid()), "sigmoid of 3 scores"),
        (nn.LazyLinear(3), "cannot be copied|cannot be traced|cannot be read"),
        (nn.Sequential(nn.Linear(12, 3), nn.Linear(4, 2)), "takes 4 values, but 3 come in"),
        (nn.Sequential(nn.Linear(12, 3), nn.ReLU(), nn.Linear(3, 2)), "Give calibration features"),
    ],
)
def test_torch_modules_that_are_no_head_are_refused(module: nn.Module, message: str) -> None:
    with pytest.raises(HeadError, match=message):
        from_torch(module)


@pytest.mark.parametrize(
    "module",
    [
        _Function(lambda h: h**2.0),
        _Function(lambda h: torch.mul(h, other=h)),
        _Function(lambda h: torch.pow(input=h, exponent=3)),
        _Function(lambda h: h.square().mul(0.5) - 1),
        _Function(lambda h: 1 - 2 * (h + h)),
        _Function(lambda h: nn.functional.dropout(h * h, 0.5, training=False)),
        nn.Sequential(nn.Linear(12, 3)).double(),
        nn.Sequential(nn.Linear(12, 3)).half(),
        nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6, affine=False), nn.Linear(6, 3)),
        nn.Sequential(nn.Linear(12, 3, bias=False), nn.LogSoftmax(-1), nn.Identity()),
        nn.Sequential(nn.Linear(12, 1)),
        nn.Sequential(nn.Linear(12, 1), nn.Sigmoid()),
        nn.utils.parametrizations.weight_norm(nn.Linear(12, 3)),
    ],
    ids=str,
)
def test_a_head_written_another_way_is_converted_exactly(module: nn.Module) -> None:
    found = from_torch(module.eval(), features=_data(3)[0])
    assert found.fits == ()
    assert found.score_error is not None
    assert found.score_error < 1e-6
    assert found.label_agreement == 1.0


def test_batch_normalisation_without_a_bias_is_converted() -> None:
    module = nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6), nn.Linear(6, 3)).eval()
    module[1].bias = None
    assert from_torch(module, features=_data(3)[0]).label_agreement == 1.0


def test_features_of_another_width_or_kind_are_refused() -> None:
    x, y = _data(3)
    for wrong in (x[:, :5], x[0], np.full_like(x, np.nan), np.array([["a"] * 12])):
        with pytest.raises(HeadError):
            from_torch(nn.Linear(12, 3), features=wrong)
        with pytest.raises(HeadError):
            from_sklearn(LogisticRegression().fit(x, y), features=wrong)


def test_without_features_no_agreement_is_stated() -> None:
    x, y = _data(3)
    for found in (from_torch(nn.Linear(12, 3)), from_sklearn(LogisticRegression().fit(x, y))):
        assert found.label_agreement is None
        assert found.score_error is None


def test_a_conversion_that_differs_from_its_original_is_refused() -> None:
    """An estimator whose decision is not what its coefficients say stands for any step that is read wrongly."""

    class Shifted(LogisticRegression):
        def decision_function(self, given: Any) -> Any:
            return super().decision_function(given) + 0.1 * given[:, :3]

    x, y = _data(3)
    estimator = Shifted().fit(x, y)
    estimator.__class__ = type("LogisticRegression", (LogisticRegression,), {})
    with pytest.raises(HeadError, match="no sequence of"):
        from_sklearn(estimator)  # a subclass may compute anything
    plain = LogisticRegression().fit(x, y)
    plain.decision_function = lambda given: LogisticRegression.decision_function(plain, given) + 0.1 * given[:, :3]
    for features in (None, x):
        with pytest.raises(HeadError, match="not the same function"):
            from_sklearn(plain, features=features)


def test_a_fit_that_changes_many_classes_is_refused() -> None:
    random = np.random.default_rng(1)
    x = random.normal(size=(400, 12)) * np.where(np.arange(400) % 40 == 0, 60.0, 0.3)[:, None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3))
    with pytest.raises(HeadError, match="of the classes on the calibration features"):
        from_torch(module, features=x)


@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(with_mean=False), LogisticRegression()),
        make_pipeline(StandardScaler(with_std=False), LogisticRegression()),
        make_pipeline(StandardScaler(with_std=False, with_mean=False), LogisticRegression()),
        make_pipeline(MinMaxScaler((-1, 2)), LogisticRegression()),
        make_pipeline(MaxAbsScaler(), LogisticRegression()),
        make_pipeline(RobustScaler(with_centering=False), make_pipeline(PCA(5), LinearSVC())),
        make_pipeline("passthrough", SelectKBest(k=4), RidgeClassifier()),
        LinearSVC(fit_intercept=False),
        LogisticRegression(fit_intercept=False),
        SGDClassifier(fit_intercept=False, random_state=0),
        OneVsRestClassifier(LinearSVC(fit_intercept=False)),
        MLPClassifier((5,), activation="identity", max_iter=40, random_state=0),
    ],
    ids=lambda one: str(one).replace("\n", "")[:60],
)
@pytest.mark.parametrize("classes", [2, 3])
def test_settings_of_scalers_and_classifiers_are_followed(estimator: Any, classes: int) -> None:
    x, y = _data(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # forty passes are no convergence, and need not be
        estimator.fit(x + 2, y)
    found = from_sklearn(estimator, features=x + 2)
    assert found.label_agreement == 1.0
    assert found.fits == ()


# Heads


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(2, 5), st.integers(2, 4))
def test_tensors_and_layers_are_read_back_equal(seed: int, depth: int, width: int, degree: int) -> None:
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


def test_linear_layers_and_polynomials_of_degree_one_become_one_layer() -> None:
    random = np.random.default_rng(0)
    first, last = nn.Linear(7, 5).double(), nn.Linear(5, 2).double()

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = first, last

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last((2.0 * self.first(x) + 0.3) / 4 - 1)

    found = from_torch(Net())
    assert [str(layer) for layer in found.head.layers] == ["linear 7 to 2"]
    x = random.normal(size=(4, 7))
    with torch.inference_mode():
        np.testing.assert_allclose(found.head.evaluate(x), Net()(torch.from_numpy(x)).numpy(), atol=1e-9)


def test_fit_error_is_largest_on_interval_and_falls_with_degree() -> None:
    errors = [fit(ACTIVATIONS["tanh"], -3, 3, degree).largest_error for degree in (1, 3)]
    assert errors[1] < errors[0]
    exact = fit(lambda x: 1 - 2 * x + 3 * x**2, -1, 4, 2)
    np.testing.assert_allclose(exact.coefficients, (1, -2, 3), atol=1e-9)
    assert exact.largest_error < 1e-9
