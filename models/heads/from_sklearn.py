"""scikit-learn's trained classifiers -> linear and polynomial layers.

Exact: LogisticRegression, LinearSVC, LinearDiscriminantAnalysis, SVC(kernel='poly', degree=2) of two classes, any of
them in OneVsRestClassifier, with StandardScaler and PCA before them in a Pipeline. Fitted: MLPClassifier, whose
activation becomes a polynomial.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import HeadError
from models.heads.conversion import Builder, Conversion, two_scores
from models.heads.layers import Head, simplified
from models.heads.polynomial import ACTIVATIONS

_SUPPORTED = (
    "LogisticRegression, LinearSVC, LinearDiscriminantAnalysis, SVC(kernel='poly', degree=2), MLPClassifier, "
    "OneVsRestClassifier of these, with StandardScaler and PCA before them in a Pipeline"
)
_NEGLIGIBLE = 1e-12
"""Eigenvalues of a quadratic kernel below this share of the largest one are rounding errors."""


def from_sklearn(estimator: Any, *, features: NDArray[Any] | None = None, degree: int = 3) -> Conversion:
    """Turn a fitted classifier on features (N, width) into a head.

    Args:
        estimator: the fitted classifier or pipeline.
        features: calibration features (N, width), usually the training ones. Needed for MLPClassifier; with them the
            conversion's error is measured, and so are hidden values, by which errors under encryption are predicted.
        degree: degree, 2 to 4, of the polynomial that replaces MLPClassifier's activation.

    Raises:
        HeadError: something that cannot be turned into linear and polynomial layers; it names the step and the remedy.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError) as error:
        raise HeadError(
            f"{type(estimator).__name__} is not a fitted scikit-learn classifier. Call fit first."
        ) from error
    builder = Builder(features, degree)
    steps = list(estimator.steps) if isinstance(estimator, Pipeline) else [("classifier", estimator)]
    for name, step in steps[:-1]:
        _transform(builder, name, step)
    name, classifier = steps[-1]
    _classify(builder, name, classifier)
    head = Head(simplified(builder.layers))
    classes = tuple(str(label) for label in classifier.classes_)
    if features is None:
        return Conversion(head, classes, tuple(builder.fits))
    wanted = _scores(estimator, features)
    given = head.evaluate(features)
    return Conversion(
        head,
        classes,
        tuple(builder.fits),
        score_error=float(np.abs(_centred(wanted) - _centred(given)).max()),
        label_agreement=float((wanted.argmax(axis=1) == given.argmax(axis=1)).mean()),
    )


def _transform(builder: Builder, name: str, step: Any) -> None:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    if step is None or step == "passthrough":
        return
    if type(step) is StandardScaler:
        width = int(step.n_features_in_)
        scale = np.ones(width) if step.scale_ is None else np.asarray(step.scale_)
        mean = np.zeros(width) if step.mean_ is None else np.asarray(step.mean_)
        builder.linear(np.diag(1 / scale), -mean / scale)
    elif type(step) is PCA:
        weight = np.asarray(step.components_)
        if step.whiten:
            weight = weight / np.sqrt(np.maximum(step.explained_variance_, np.finfo(float).tiny))[:, None]
        builder.linear(weight, -weight @ np.asarray(step.mean_))
    else:
        raise HeadError(
            f"The pipeline's step '{name}' is a {type(step).__name__}, which cannot be computed on encrypted features. "
            f"Take it out, or do it in the extractor. Supported: {_SUPPORTED}."
        )


def _classify(builder: Builder, name: str, classifier: Any) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC, LinearSVC

    kind = type(classifier)
    if kind in (LogisticRegression, LinearSVC, LinearDiscriminantAnalysis):
        weight, bias = np.atleast_2d(classifier.coef_), np.atleast_1d(classifier.intercept_)
        builder.linear(*(two_scores(weight, bias) if len(weight) == 1 else (weight, bias)))
    elif kind is SVC:
        _quadratic(builder, name, [classifier])
    elif kind is MLPClassifier:
        _perceptron(builder, name, classifier)
    elif kind is OneVsRestClassifier and type(classifier.estimator) is SVC:
        _quadratic(builder, name, list(classifier.estimators_))
    elif kind is OneVsRestClassifier and type(classifier.estimator) in (LogisticRegression, LinearSVC):
        weight = np.concatenate([np.atleast_2d(one.coef_) for one in classifier.estimators_])
        bias = np.concatenate([np.atleast_1d(one.intercept_) for one in classifier.estimators_])
        builder.linear(*(two_scores(weight, bias) if len(weight) == 1 else (weight, bias)))
    else:
        raise HeadError(
            f"The classifier '{name}' is a {kind.__name__}, which is no sequence of linear and polynomial layers. "
            f"Supported: {_SUPPORTED}."
        )


def _quadratic(builder: Builder, name: str, machines: list[Any]) -> None:
    """Support vector machines with the kernel (gamma <s, x> + c)^2, one a score, as one hidden layer with x^2.

    The decision sum_i a_i (gamma <s_i, x> + c)^2 + b is the quadratic form of (x, 1) with the matrix
    Q = sum_i a_i t_i t_i^T, t_i = (gamma s_i, c). Its eigenvectors need at most width + 1 hidden values, however many
    support vectors there are: sum_k l_k <v_k, (x, 1)>^2.
    """
    rows: list[NDArray[np.float64]] = []
    signs: list[tuple[int, NDArray[np.float64]]] = []
    for score, machine in enumerate(machines):
        if machine.kernel != "poly" or machine.degree != 2:
            raise HeadError(
                f"The classifier '{name}' is an SVC with the kernel '{machine.kernel}'"
                f"{f' of degree {machine.degree}' if machine.kernel == 'poly' else ''}. Supported: kernel='poly', "
                "degree=2, or LinearSVC."
            )
        if len(machine.classes_) != 2:
            raise HeadError(
                f"The classifier '{name}' is an SVC of {len(machine.classes_)} classes, which votes between pairs; "
                "votes are not polynomials. Wrap it: OneVsRestClassifier(SVC(kernel='poly', degree=2))."
            )
        vectors = np.asarray(machine.support_vectors_, dtype=np.float64)
        extended = np.hstack([machine._gamma * vectors, np.full((len(vectors), 1), float(machine.coef0))])
        values, columns = np.linalg.eigh(extended.T @ (np.asarray(machine.dual_coef_).reshape(-1, 1) * extended))
        kept = np.abs(values) > _NEGLIGIBLE * max(float(np.abs(values).max()), np.finfo(float).tiny)
        rows.append((columns[:, kept] * np.sqrt(np.abs(values[kept]))).T)
        signs.append((score, np.sign(values[kept])))
    hidden = np.concatenate(rows)
    outer = np.zeros((len(machines), len(hidden)))
    start = 0
    for score, sign in signs:
        outer[score, start : start + len(sign)] = sign
        start += len(sign)
    bias = np.array([float(machine.intercept_[0]) for machine in machines])
    builder.linear(hidden[:, :-1], hidden[:, -1])
    builder.polynomial((0.0, 0.0, 1.0))
    builder.linear(*(two_scores(outer, bias) if len(machines) == 1 else (outer, bias)))


def _perceptron(builder: Builder, name: str, network: Any) -> None:
    if network.activation not in ACTIVATIONS:
        raise HeadError(f"The classifier '{name}' has the unknown activation '{network.activation}'.")
    last = len(network.coefs_) - 1
    for index, (weight, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        rows, shift = np.asarray(weight).T, np.asarray(bias)
        if index == last and len(rows) == 1:
            rows, shift = two_scores(rows, shift)
        builder.linear(rows, shift)
        if index < last and network.activation != "identity":
            builder.activation(network.activation, ACTIVATIONS[network.activation])


def _scores(estimator: Any, features: NDArray[Any]) -> NDArray[np.float64]:
    """The classifier's own scores in the form that the head gives: (N, classes)."""
    if hasattr(estimator, "decision_function"):
        values = np.asarray(estimator.decision_function(features), dtype=np.float64)
        return np.stack([-values, values], axis=1) / 2 if values.ndim == 1 else values
    return np.log(np.maximum(np.asarray(estimator.predict_proba(features), dtype=np.float64), 1e-300))


def _centred(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores less their mean: log-probabilities and scores before softmax differ by a number a row."""
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))
