"""Converts scikit-learn's trained classifiers to linear and polynomial layers.

Exact: linear classifiers (LogisticRegression, LinearSVC, RidgeClassifier, SGDClassifier, Perceptron,
LinearDiscriminantAnalysis, SVC(kernel='linear') of two classes), SVC(kernel='poly', degree=2) of two classes, any of
them in OneVsRestClassifier, with scalers, PCA and feature selection before them in a Pipeline. Fitted: MLPClassifier,
whose activation becomes a polynomial. Every conversion is compared with the estimator and refused where they differ.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import HeadError
from models.heads.conversion import Builder, Conversion, compare, two_scores
from models.heads.polynomial import ACTIVATIONS

_SUPPORTED = (
    "linear classifiers (LogisticRegression, LinearSVC, LinearDiscriminantAnalysis, RidgeClassifier, SGDClassifier), "
    "SVC(kernel='poly', degree=2), MLPClassifier, OneVsRestClassifier of these, with StandardScaler, MinMaxScaler, "
    "MaxAbsScaler, RobustScaler, PCA and feature selection before them in a Pipeline"
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
        HeadError: something that cannot be turned into linear and polynomial layers, or whose head gives other scores;
            it names the step and the remedy.

    Warns:
        ProbabilitiesDiffer: the classifier's own probabilities are not the softmax of its scores, as those of one
            against the rest; see `Conversion.probability_error`.
    """
    from sklearn.exceptions import NotFittedError
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    kind = type(estimator).__name__
    try:
        check_is_fitted(estimator)
    except (NotFittedError, TypeError) as error:
        raise HeadError(f"{kind} is not a fitted scikit-learn classifier. Call fit first.") from error
    builder = Builder(features, degree)
    steps = _steps(estimator) if isinstance(estimator, Pipeline) else [("classifier", estimator)]
    for name, step in steps:
        try:
            (_classify if step is steps[-1][1] else _transform)(builder, step)
        except HeadError as error:
            raise HeadError(f"The step '{name}' ({type(step).__name__}): {error}") from error
        except (AttributeError, TypeError, ValueError, IndexError) as error:
            raise HeadError(
                f"The step '{name}' ({type(step).__name__}) cannot be read ({error}). Supported: {_SUPPORTED}."
            ) from error
    classes = tuple(_name_class(label) for label in steps[-1][1].classes_)
    head = builder.head(classes)
    if len(classes) != head.classes:
        raise HeadError(f"{kind} has {len(classes)} classes but {head.classes} scores: several labels an image.")
    probabilities = not hasattr(estimator, "decision_function")
    return compare(
        head,
        builder.fits,
        features,
        lambda given: _scores(estimator, given, probabilities),
        kind,
        probabilities=probabilities,
        stated=(lambda given: _scores(estimator, given, True)) if hasattr(estimator, "predict_proba") else None,
    )


def _name_class(label: Any) -> str:
    """A class's name; 1.0 is the class 1, since labels of whole numbers often come as fractions."""
    if isinstance(label, float | np.floating) and float(label).is_integer():
        return str(int(label))
    return str(label)


def _steps(pipeline: Any) -> list[tuple[str, Any]]:
    """The steps in order, those of inner pipelines in their place."""
    from sklearn.pipeline import Pipeline

    steps: list[tuple[str, Any]] = []
    for name, step in pipeline.steps:
        steps += _steps(step) if isinstance(step, Pipeline) else [(name, step)]
    return steps


def _transform(builder: Builder, step: Any) -> None:
    from sklearn.decomposition import PCA, TruncatedSVD
    from sklearn.feature_selection import SelectorMixin
    from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler

    if step is None or isinstance(step, str):  # 'passthrough'
        return
    kind = type(step)
    if kind is StandardScaler:
        # `mean_` and `var_` are kept whether or not they are used.
        _scale(builder, step, step.mean_ if step.with_mean else None, step.scale_ if step.with_std else None)
    elif kind is RobustScaler:
        center, scale = step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None
        _scale(builder, step, center, scale)
    elif kind is MaxAbsScaler and not getattr(step, "clip", False):
        _scale(builder, step, None, step.scale_)
    elif kind is MinMaxScaler and not step.clip:
        builder.linear(np.diag(step.scale_), np.asarray(step.min_))
    elif kind is PCA:
        weight = np.asarray(step.components_)
        if step.whiten:
            weight = weight / np.sqrt(np.maximum(step.explained_variance_, np.finfo(float).tiny))[:, None]
        builder.linear(weight, -weight @ np.asarray(step.mean_))
    elif kind is TruncatedSVD:
        builder.linear(step.components_, np.zeros(len(step.components_)))
    elif isinstance(step, SelectorMixin):
        kept = np.asarray(step.get_support())
        builder.linear(np.eye(len(kept))[kept], np.zeros(int(kept.sum())))
    else:
        raise HeadError(
            f"It cannot be computed on encrypted features. Take it out, or do it in the extractor. Supported: "
            f"{_SUPPORTED}."
        )


def _scale(builder: Builder, step: Any, center: Any, scale: Any) -> None:
    width = int(step.n_features_in_)
    factor = np.ones(width) if scale is None else 1 / np.asarray(scale)
    shift = np.zeros(width) if center is None else np.asarray(center)
    builder.linear(np.diag(factor), -shift * factor)


def _classify(builder: Builder, classifier: Any) -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.linear_model import (
        LogisticRegression,
        LogisticRegressionCV,
        Perceptron,
        RidgeClassifier,
        RidgeClassifierCV,
        SGDClassifier,
    )
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC, LinearSVC

    linear = (
        LogisticRegression,
        LogisticRegressionCV,
        LinearSVC,
        LinearDiscriminantAnalysis,
        RidgeClassifier,
        RidgeClassifierCV,
        SGDClassifier,
        Perceptron,
    )
    kind = type(classifier)
    if kind in linear or (kind is SVC and classifier.kernel == "linear" and len(classifier.classes_) == 2):
        weight = np.atleast_2d(classifier.coef_)
        # Without an intercept some estimators keep a single 0 whatever the number of classes.
        builder.linear(weight, np.broadcast_to(np.ravel(classifier.intercept_), (len(weight),)))
    elif kind is SVC:
        _quadratic(builder, [classifier])
    elif kind is MLPClassifier:
        _perceptron(builder, classifier)
    elif kind is OneVsRestClassifier and not classifier.multilabel_ and type(classifier.estimator) is SVC:
        _quadratic(builder, list(classifier.estimators_))
    elif kind is OneVsRestClassifier and not classifier.multilabel_ and type(classifier.estimator) in linear:
        weight = np.concatenate([np.atleast_2d(one.coef_) for one in classifier.estimators_])
        bias = np.concatenate([np.ravel(one.intercept_) for one in classifier.estimators_])
        builder.linear(weight, bias)
    else:
        raise HeadError(f"It is no sequence of linear and polynomial layers. Supported: {_SUPPORTED}.")


def _quadratic(builder: Builder, machines: list[Any]) -> None:
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
                f"An SVC with the kernel '{machine.kernel}'"
                f"{f' of degree {machine.degree}' if machine.kernel == 'poly' else ''} is not supported. Supported: "
                "kernel='poly', degree=2, or LinearSVC."
            )
        if len(machine.classes_) != 2:
            raise HeadError(
                f"An SVC of {len(machine.classes_)} classes votes between pairs; votes are not polynomials. Wrap it: "
                "OneVsRestClassifier(SVC(kernel='poly', degree=2))."
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


def _perceptron(builder: Builder, network: Any) -> None:
    if network.activation not in ACTIVATIONS:
        raise HeadError(f"The activation '{network.activation}' is unknown.")
    last = len(network.coefs_) - 1
    for index, (weight, bias) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        builder.linear(np.asarray(weight).T, np.asarray(bias))
        if index < last and network.activation != "identity":
            builder.activation(network.activation, ACTIVATIONS[network.activation])


def _scores(estimator: Any, features: NDArray[np.float64], probabilities: bool) -> NDArray[np.float64]:
    """The classifier's own scores or probabilities, (N, classes)."""
    try:
        if probabilities:
            return np.asarray(estimator.predict_proba(features), dtype=np.float64)
        values = np.asarray(estimator.decision_function(features), dtype=np.float64)
        return np.stack([-values, values], axis=1) / 2 if values.ndim == 1 else values
    except Exception as error:  # the estimator's own code may raise any error on unsuitable features
        raise HeadError(f"{type(estimator).__name__} cannot be evaluated on the features ({error}).") from error
