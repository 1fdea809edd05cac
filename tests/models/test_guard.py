"""The guard and the card: images unlike the training images, false alarms, and the client's copy."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from he_infer.commands.client.card_option import read_card
from he_infer.errors import ReportError
from models.bundle import Bundle
from models.card import check_kind, choose_operating_point, decide, describe_figures, make_card, wilson
from models.card_file import merge_card
from models.errors import DamagedBundle, InputError
from models.guard import Guard, choose_threshold
from models.metrics import figures
from tests.models.kit import toy


def draw(count: int, seed: int, shift: float = 0.0, width: int = 40) -> np.ndarray:
    """Correlated features, as a trained network gives them."""
    mixing = np.random.default_rng(7).normal(size=(5, width))
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 5)) @ mixing + 0.1 * random.normal(size=(count, width)) + shift


@pytest.fixture(scope="module")
def guard() -> Guard:
    made = Guard.fit(draw(500, 0), draw(1000, 1))
    assert made is not None
    return made


def test_the_false_alarm_share_is_the_one_asked_for(guard: Guard) -> None:
    assert np.mean(guard.distances(draw(1000, 1)) > guard.threshold) <= 0.01
    assert np.mean(guard.distances(draw(4000, 2)) > guard.threshold) <= guard.false_alarms <= 0.01
    assert 0.3 < np.median(guard.distances(draw(4000, 2))) < 1.1  # shrinkage makes directions of no spread wider


@pytest.mark.parametrize("count", [20, 78, 298, 299, 524])
def test_threshold_is_exceeded_by_no_more_than_its_share_in_95_of_100_sets(count: int) -> None:
    random = np.random.default_rng(count)
    wrong = 0
    for _ in range(400):
        threshold, share = choose_threshold(random.exponential(size=count), 0.01)
        assert share <= max(0.01, 1 - 0.05 ** (1 / count) + 1e-9)
        wrong += np.exp(-threshold) > share
    assert wrong <= 0.05 * 400 + 3 * np.sqrt(400 * 0.05 * 0.95)
    assert (share <= 0.01) == (count >= 299)


def test_features_off_the_training_directions_are_found(guard: Guard) -> None:
    off = draw(50, 3) + np.random.default_rng(4).normal(size=(50, 40))
    verdicts = guard.judge(off)
    assert all(not verdict.accepted and "Not this model's kind" in verdict.reason for verdict in verdicts)
    assert all(verdict.accepted and not verdict.reason for verdict in guard.judge(draw(50, 0)[:5] * 0.5))


def test_guard_is_read_back_from_its_tensors(guard: Guard) -> None:
    again = Guard.from_bundle(guard.to_json(), guard.to_tensors())
    np.testing.assert_array_equal(again.distances(draw(9, 5)), guard.distances(draw(9, 5)))
    for name in guard.to_tensors():
        with pytest.raises(DamagedBundle, match="incomplete"):
            Guard.from_bundle(guard.to_json(), {k: v for k, v in guard.to_tensors().items() if k != name})
        with pytest.raises(DamagedBundle, match="are invalid"):
            Guard.from_bundle(guard.to_json(), {**guard.to_tensors(), name: guard.to_tensors()[name] * np.nan})


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(16, 64), st.integers(0, 99))
def test_any_number_of_images_gives_a_guard_or_none(count: int, few: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    features, validation = random.normal(size=(count, width)), random.normal(size=(few, width))
    features[:, 0] = 1.0  # a feature that never changes
    made = Guard.fit(features, validation)
    assert (made is None) == (min(count, few) < 20)
    if made is not None:
        assert np.isfinite(made.distances(validation)).all()
        assert np.isfinite(made.distances(np.full((2, width), 1e6))).all()


def test_trained_bundle_refuses_images_unlike_its_training_images(trained: Bundle) -> None:
    assert trained.guard is not None
    dataset = toy()
    own = trained.feature_model.judge(trained.features(dataset.test.images))
    noise = np.random.default_rng(0).random((64, 16, 16), dtype=np.float32)
    other = trained.feature_model.judge(trained.features(noise))
    assert np.mean([verdict.accepted for verdict in own]) > 0.9
    assert np.mean([verdict.distance for verdict in other]) > np.mean([verdict.distance for verdict in own])
    assert trained.card["training_set"]["name"] == "toy"
    assert sum(trained.card["prevalence"].values()) == pytest.approx(1)


# The card


def test_the_operating_point_separates_validation_images() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    probability = np.concatenate([np.linspace(0.01, 0.2, 90), np.linspace(0.25, 0.4, 10)])
    scores = np.stack([np.log(1 - probability), np.log(probability)], axis=1)
    point = choose_operating_point(labels, scores, ("well", "ill"))
    assert point is not None
    assert 0.2 < point["threshold"] < 0.25
    assert (point["sensitivity"], point["specificity"], point["class"]) == (1.0, 1.0, "ill")
    pairs = np.stack([1 - probability, probability], axis=1)
    assert (decide({"operating_point": point}, ("well", "ill"), pairs) == labels).all()
    assert not decide({}, ("well", "ill"), pairs).any()
    assert choose_operating_point(labels * 0, scores, ("well", "ill")) is None
    assert choose_operating_point(labels, np.zeros((100, 3)), ("a", "b", "c")) is None


def test_a_card_states_shares_and_figures_with_intervals() -> None:
    dataset = toy()
    card = make_card(dataset, size=16, scores=np.zeros((48, 2)))
    assert card["training_set"]["images"] == {"train": 192, "val": 48, "test": 64}
    assert card["prevalence"] == {"corner 0": 0.5, "corner 1": 0.5}
    shown = describe_figures(dataset.test.labels, figures(dataset.test.labels, np.zeros((64, 2))))
    assert shown["majority_share"] == shown["accuracy"] == 0.5
    assert shown["accuracy_interval"][0] < 0.5 < shown["accuracy_interval"][1]
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(50, 100) == pytest.approx((0.40383, 0.59617), abs=1e-4)


def test_image_of_another_modality_does_not_fit_the_card() -> None:
    card = {"image": {"modality": ["US"]}}
    assert "Modality is CT; the model was made from US" in str(check_kind(card, {"modality": "CT"}))
    for known, kind in (
        (card, {"modality": "US"}),
        (card, {}),
        ({}, {"modality": "CT"}),
        ({"image": 3}, {"modality": "CT"}),
    ):
        assert check_kind(known, kind) is None


def test_ordered_classes_are_decided_by_the_median() -> None:
    classes, card = ("none", "mild", "moderate", "severe"), {"task": "ordinal-regression"}
    split = np.array([[0.4, 0.0, 0.25, 0.35], [0.5, 0.3, 0.1, 0.1], [0.1, 0.1, 0.1, 0.699]])
    assert decide(card, classes, split).tolist() == [2, 0, 3]
    assert decide({"task": "multi-class"}, classes, split).tolist() == [0, 0, 3]
    random = np.random.default_rng(0)
    shares = random.dirichlet(np.full(4, 0.7), 5000)
    grades = (shares.cumsum(axis=1) > random.random((5000, 1))).argmax(axis=1)
    by_median, by_mode = (np.abs(decide({"task": t}, classes, shares) - grades).mean() for t in (card["task"], ""))
    assert by_median < 0.95 * by_mode
    figures_of = describe_figures(grades, figures(grades, np.log(shares + 1e-12)), decide(card, classes, shares))
    assert figures_of["decided_distance"] == pytest.approx(by_median, abs=1e-4)


@pytest.mark.parametrize(
    ("listed", "kind", "attribute"),
    [
        ({"body_part": ["CHEST"]}, {"body_part": "SPINE"}, "Body Part"),
        ({"body_part": ["CHEST", "not stated"]}, {"body_part": "SPINE"}, None),
        ({"view": ["AP", "PA"]}, {"view": "LL"}, "View Position"),
        ({"view": ["AP", "PA"]}, {}, None),
        ({"photometric": ["MONOCHROME2"]}, {"photometric": "RGB"}, "Photometric"),
        ({"photometric": ["MONOCHROME2"]}, {"photometric": "MONOCHROME1"}, None),
        ({"photometric": ["RGB"]}, {"photometric": "YBR_FULL_422"}, None),
        ({"photometric": ["RGB"]}, {"photometric": "MONOCHROME2"}, "Photometric"),
        ({"modality": ["CT", "not stated"]}, {"modality": "MR"}, "Modality"),
        ({"modality": ["not stated"]}, {"modality": "MR"}, None),
    ],
)
def test_header_is_checked_against_what_every_training_image_states(
    listed: dict[str, list[str]], kind: dict[str, str], attribute: str | None
) -> None:
    reason = check_kind({"image": listed}, kind)
    assert reason is None if attribute is None else attribute in str(reason)


CARD = """
intended_use = "Teaching."
[image]
body_part = ["chest"]
[findings.codes.well]
value = "17621005"
scheme = "SCT"
meaning = "Normal"
"""


def test_owner_card_file_replaces_members(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(CARD)
    given = read_card(tmp_path / "card.toml", ("well", "ill"))
    card = merge_card({"licence": "Not stated.", "image": {"size": 28, "body_part": ["ABDOMEN"]}}, given)
    assert card["image"] == {"size": 28, "body_part": ["CHEST"]}
    assert (card["intended_use"], card["licence"]) == ("Teaching.", "Not stated.")
    assert card["findings"]["codes"]["well"]["value"] == "17621005"
    assert read_card(None, ("well", "ill")) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("licence = [", "no TOML"),
        ("licence = " + "[" * 5000, "no TOML"),
        ("author = 'me'", "unknown member 'author'"),
        ("licence = 3", "'licence' must be a text"),
        ("[image]\nsize = 3", "'image' must be a table"),
        ("[image]\nview = 'PA'", "list of texts"),
        ("[findings.codes.sick]\nvalue = '1'\nscheme = 'SCT'\nmeaning = 'x'", "classes that the model lacks"),
        ("[findings.codes.ill]\nvalue = '1'\nscheme = 'MINE'\nmeaning = 'x'", "unknown scheme 'MINE'"),
    ],
)
def test_invalid_card_file_is_refused_with_its_member(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(text)
    with pytest.raises((InputError, ReportError), match=words):
        read_card(tmp_path / "card.toml", ("well", "ill"))


def test_card_and_guard_reach_the_client_file(trained: Bundle, tmp_path: Path) -> None:
    trained.save(tmp_path / "b.hebundle")
    again = Bundle.load(tmp_path / "b.hebundle")
    assert again.card == trained.card
    assert again.guard is not None
    assert again.guard.threshold == trained.guard.threshold  # type: ignore[union-attr] - asserted above
