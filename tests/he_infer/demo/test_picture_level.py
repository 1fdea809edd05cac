"""Scores of patches are summed by picture, so many uncertain patches can outweigh a certain one."""

import numpy as np

from he_infer.demo.picture_level import count_right, sum_by_group


def test_sum_of_scores_decides_against_the_count_of_labels() -> None:
    groups, labels = np.array([7, 7, 7, 3]), np.array([1, 1, 1, 0])
    clear = np.array([[0.1, 0.0], [0.1, 0.0], [0.0, 5.0], [1.0, 0.0]])
    opened = clear + 1e-4
    first, second = sum_by_group(groups, labels, clear, opened)
    assert (first.truth, first.clear, first.encrypted, first.patches, first.example) == (1, 1, 1, 3, 1)
    assert (second.truth, second.encrypted, second.patches) == (0, 0, 1)


def test_wrong_pictures_are_counted_for_each_side() -> None:
    groups, labels = np.array([0, 1]), np.array([0, 1])
    clear, opened = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [1.0, 0.0]])
    results = sum_by_group(groups, labels, clear, opened)
    assert (count_right(results, encrypted=False), count_right(results, encrypted=True)) == (2, 1)
