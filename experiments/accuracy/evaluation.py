"""Figures of a head on a test set, in clear, simulated and encrypted."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments import encrypted
from experiments.accuracy.agreement import Agreement, bootstrap_intervals, compare_scores
from experiments.accuracy.candidates import FittedHead
from he_infer.ckks.simulate import simulate
from models import metrics
from models.heads.ranges import share_outside

Scores = NDArray[np.float64]

QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "largest": 1.0}
"""Quantiles that are reported of the scores' absolute errors, over all images and classes."""


def compute_clear_figures(labels: NDArray[np.int64], scores: Scores) -> dict[str, Any]:
    """Accuracy, AUC, balanced accuracy, recalls, calibration error, and 95 % bootstrap intervals of the first two."""
    found = metrics.figures(labels, scores)
    accuracies, areas = bootstrap_intervals(labels, scores)
    return {
        "accuracy": found.accuracy,
        "accuracy_interval": accuracies,
        "auc": found.auc,
        "auc_interval": areas,
        "balanced_accuracy": found.balanced_accuracy,
        "recall": found.recall,
        "ece": found.ece,
    }


def compare_with_clear(labels: NDArray[np.int64], clear: Scores, other: Scores) -> dict[str, Any]:
    """Compute the figures of simulated or encrypted scores, and their differences from the clear ones."""
    agreement: Agreement = compare_scores(labels, clear, other)
    errors = np.abs(clear - other)
    return {
        **compute_clear_figures(labels, other),
        "label_agreement": agreement.label_agreement,
        "flips": round((1 - agreement.label_agreement) * agreement.n),
        "flips_beyond_error": agreement.flips_beyond_error,
        "mcnemar_p": agreement.mcnemar_p,
        "only_clear_right": agreement.only_clear_right,
        "only_other_right": agreement.only_encrypted_right,
        "score_error": {name: float(np.quantile(errors, share)) for name, share in QUANTILES.items()},
    }


def evaluate_head(
    fitted: FittedHead,
    features: NDArray[Any],
    labels: NDArray[np.int64],
    *,
    policy: str,
    precision: float,
    batch: int,
    seed: int,
    input_bound: float,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """All figures of one head on test features (N, width).

    A head with ReLU is evaluated in clear only; `simulated` and `encrypted` are then absent.

    Raises:
        HeadError, ParameterError: the head cannot be computed under encryption.
    """
    clear = fitted.scores(features)
    figures: dict[str, Any] = {
        "n": len(labels),
        "majority_share": metrics.compute_majority_share(labels),
        "clear": compute_clear_figures(labels, clear),
    }
    if fitted.head is None:
        return figures
    figures["share_outside"] = share_outside(fitted.head, features, fitted.allowed)
    head = fitted.head
    plan = encrypted.plan_head(head, policy=policy, precision=precision, input_bound=input_bound, batch=batch)
    figures["simulated"] = compare_with_clear(labels, clear, simulate(plan, head, features, seed=seed))
    found = encrypted.evaluate_plan(head, plan, features, progress)
    figures["encrypted"] = compare_with_clear(labels, clear, found.scores)
    figures["price"] = {
        "engine": found.engine,
        "evaluate_ms_median": float(np.median(found.evaluate_ms)) / plan.batch,
        "bytes_up": math.ceil(found.bytes_up / plan.batch),
        "bytes_down": math.ceil(found.bytes_down / plan.batch),
        "evaluation_key_bytes": found.evaluation_key_bytes,
        "key_switches": plan.key_switches,
        "batch": plan.batch,
        "parameters": str(plan.parameters),
        "predicted_error": plan.error,
    }
    return figures
