"""Membership inference: signals that an image was in the training set, and their quality."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from he_infer.head.layers import Head, Linear, Polynomial
from models.metrics import predictions, softmax

Scores = NDArray[np.float64]
"""(N, classes)"""
Labels = NDArray[np.int64]
Signal = NDArray[np.float64]
"""(N,), larger where an image looks more like one of the training images."""


@dataclass(frozen=True)
class MembershipResult:
    """Figures of a signal's power to tell members from others."""

    auc: float
    """Area under its ROC curve: 0.5 is a guess."""
    low: float
    high: float
    """95 % interval of the area (bootstrap over members and others apart)."""
    caught: float
    """Share of the members that are named at a false positive rate of at most 1 % (Carlini et al. 2022)."""


def compute_loss_signal(scores: Scores, labels: Labels) -> Signal:
    """Minus the cross-entropy of the true class: the attack of Yeom et al. (CSF 2018)."""
    chosen = softmax(scores)[np.arange(len(labels)), labels]
    return np.asarray(np.log(np.maximum(chosen, 1e-300)))


def compute_label_signal(scores: Scores, labels: Labels) -> Signal:
    """1 where the label is right, else 0: the only signal where labels alone are given out (the gap attack)."""
    return np.asarray(predictions(scores) == labels, dtype=np.float64)


def compute_gradient_signal(head: Head, features: NDArray[np.floating], labels: Labels) -> Signal:
    """Minus the norm of the loss's gradient in the head's weights (Nasr, Shokri and Houmansadr, S&P 2019).

    It needs the weights, hence the policy `open`, and the features, which the client has. Only the weights of linear
    layers count: a head's convolutions come first, and nothing is propagated through them.
    """
    values = np.asarray(features, dtype=np.float64)
    inputs = [values, *head.evaluate_layers(values)]
    delta = softmax(inputs[-1])
    delta[np.arange(len(labels)), labels] -= 1.0
    total = np.zeros(len(labels))
    for index in range(len(head.layers) - 1, -1, -1):
        layer, before = head.layers[index], inputs[index]
        if isinstance(layer, Linear):
            total += (delta**2).sum(axis=1) * ((before**2).sum(axis=1) + 1.0)
            delta = delta @ layer.weight
        elif isinstance(layer, Polynomial):
            slope = np.polynomial.polynomial.polyder(np.array(layer.coefficients))
            delta = delta * np.polynomial.polynomial.polyval(before, slope)
    return -np.sqrt(total)


def infer_membership(
    signal: Signal, member: NDArray[np.bool_], *, rounds: int = 1000, seed: int = 0
) -> MembershipResult:
    """Judge a signal on images of which it is known whether they are members."""
    inside, outside = signal[member], signal[~member]
    random = np.random.default_rng(seed)
    areas = [
        compute_auc(random.choice(inside, len(inside)), random.choice(outside, len(outside))) for _ in range(rounds)
    ]
    low, high = np.percentile(areas, [2.5, 97.5])
    return MembershipResult(compute_auc(inside, outside), float(low), float(high), _caught(inside, outside))


def compute_auc(inside: Signal, outside: Signal) -> float:
    """Area under the ROC curve, ties counting half (Mann and Whitney 1947)."""
    ranks = rankdata(np.concatenate([inside, outside]))
    rank_sum = float(ranks[: len(inside)].sum())
    return (rank_sum - len(inside) * (len(inside) + 1) / 2) / (len(inside) * len(outside))


def _caught(inside: Signal, outside: Signal) -> float:
    allowed = math.floor(0.01 * len(outside))
    threshold = np.sort(outside)[::-1][allowed]
    return float((inside > threshold).mean())
