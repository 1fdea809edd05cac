"""Converted scikit-learn and ONNX classifiers: names and order of their classes, and their own probabilities."""

import warnings
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC

from models.errors import ProbabilitiesDiffer
from models.heads.conversion import SHOWN
from models.heads.from_onnx import from_onnx
from models.heads.from_sklearn import from_sklearn
from models.metrics import softmax
from tests.models.kit import one_against_the_rest


def _data(classes: int, width: int = 12, count: int = 180) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    return random.normal(size=(count, width)) + 2 * np.eye(classes, width)[labels], labels


@pytest.mark.parametrize(
    ("estimator", "classes", "equal"),
    [
        (LogisticRegression(), 2, True),
        (LogisticRegression(), 3, True),
        (LinearDiscriminantAnalysis(), 3, True),
        (make_pipeline(StandardScaler(), LogisticRegression()), 3, True),
        (MLPClassifier((5,), activation="identity", max_iter=40, random_state=0), 3, True),
        (OneVsRestClassifier(LogisticRegression()), 2, True),
        (OneVsRestClassifier(LogisticRegression()), 3, False),
        (OneVsRestClassifier(LinearDiscriminantAnalysis()), 4, False),
        (SGDClassifier(loss="log_loss", random_state=0), 3, False),
        (SGDClassifier(loss="modified_huber", random_state=0), 2, False),
        (make_pipeline(StandardScaler(), OneVsRestClassifier(LogisticRegression())), 3, False),
    ],
    ids=lambda one: str(one).replace("\n", "")[:60],
)
def test_other_probabilities_than_the_classifiers_own_are_warned_of(estimator: Any, classes: int, equal: bool) -> None:
    x, y = _data(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # forty passes are no convergence, and need not be
        estimator.fit(x, y)
    for features in (x, None):
        with nullcontext() if equal else pytest.warns(ProbabilitiesDiffer, match="differs from the classifier's own"):
            found = from_sklearn(estimator, features=features)
        assert (found.probability_error < SHOWN) == equal
    own = estimator.predict_proba(x)
    difference = np.abs(softmax(found.head.evaluate(x)) - own).max()
    assert (difference < SHOWN) == equal
    assert (found.head.evaluate(x).argmax(axis=1) == own.argmax(axis=1)).all()


def test_a_classifier_without_probabilities_states_no_difference() -> None:
    x, y = _data(3)
    assert from_sklearn(LinearSVC().fit(x, y), features=x).probability_error is None


LABELS = {
    "text": ["zebra", "ape", "mouse"],
    "negative": [5, -3, 0],
    "whole fractions": [2.0, 0.0, 1.0],
    "bytes of text": np.array(["ü", "a", "z"]),
    "numbers as text": ["10", "9", "-1"],
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "estimator",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(MinMaxScaler(), LinearSVC()),
        OneVsRestClassifier(SVC(kernel="poly", degree=2)),
        LinearDiscriminantAnalysis(),
        MLPClassifier((5,), activation="identity", max_iter=40, random_state=0),
    ],
    ids=lambda one: str(one).replace("\n", "")[:60],
)
def test_classes_of_any_name_and_order_keep_their_scores(kind: str, classes: int, estimator: Any) -> None:
    x, y = _data(classes)
    names = np.array(LABELS[kind][:classes])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.fit(x, names[y])
    found = from_sklearn(estimator, features=x)

    def write(labels: Any) -> list[str]:
        return [str(int(one)) if kind == "whole fractions" else str(one) for one in labels]

    assert [found.classes[index] for index in found.head.evaluate(x).argmax(axis=1)] == write(estimator.predict(x))
    assert set(found.classes) == set(write(estimator.classes_))  # also of a class that is never predicted


def test_classes_that_are_truth_values_keep_their_scores() -> None:
    x, y = _data(2)
    estimator = LogisticRegression().fit(x, y == 0)
    found = from_sklearn(estimator, features=x)
    assert found.classes == ("False", "True")
    assert (found.head.evaluate(x).argmax(axis=1) == estimator.predict(x)).all()


# ONNX


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", ["text", "negative"])
@pytest.mark.parametrize("scaled", [True, False])
def test_onnx_classes_of_any_name_and_order_keep_their_scores(
    kind: str, classes: int, zipmap: bool, scaled: bool
) -> None:
    from skl2onnx import to_onnx

    x, y = _data(classes)
    names = np.array(LABELS[kind][:classes])
    classifier = LogisticRegression()
    estimator = (make_pipeline(StandardScaler(), classifier) if scaled else classifier).fit(x, names[y])
    options = {id(classifier if not scaled else estimator.steps[-1][1]): {"zipmap": zipmap}}
    found = from_onnx(to_onnx(estimator, x[:1].astype(np.float32), options=options).SerializeToString(), features=x)
    scores = found.head.evaluate(x)
    assert [found.classes[index] for index in scores.argmax(axis=1)] == [str(one) for one in estimator.predict(x)]
    np.testing.assert_allclose(softmax(scores), estimator.predict_proba(x), atol=1e-5)


def test_onnx_probabilities_of_one_against_the_rest_are_warned_of() -> None:
    x, y = _data(3)
    estimator = OneVsRestClassifier(LogisticRegression()).fit(x, y)
    with pytest.warns(ProbabilitiesDiffer, match="the ONNX head"):
        found = from_onnx(one_against_the_rest(estimator), features=x)
    difference = np.abs(softmax(found.head.evaluate(x)) - estimator.predict_proba(x)).max()
    assert found.probability_error == pytest.approx(difference, abs=1e-4)
    assert (found.head.evaluate(x).argmax(axis=1) == estimator.predict(x)).all()
