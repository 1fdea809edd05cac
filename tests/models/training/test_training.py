"""Training: a seed repeats it, the test split is not used, and the exported model is the trained one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from he_infer.head.layers import Head, Linear, Polynomial
from models.bundle import Bundle
from models.datasets import Dataset, Split
from models.errors import HeadError, InputError, TrainingError
from models.extractors.cnn import Cnn, CnnConfig
from models.extractors.export import export
from models.extractors.towers import Towers, joined
from models.heads.calibration import calibrated, fit_calibration
from models.heads.prevalence import Prevalence
from models.heads.ranges import inputs, into_range, share_outside
from models.heads.trainable import RANGE, make
from models.images.preprocessing import Preprocessing
from models.metrics import figures, softmax
from models.training.augment import Augmentation
from models.training.averaging import Average
from models.training.head_training import train_head
from models.training.threads import one_thread
from models.training.train import Epoch, Recipe, train
from tests.models.conftest import named
from tests.models.kit import toy


def test_the_toy_set_is_learned_and_the_head_is_in_range(trained: Bundle) -> None:
    dataset = toy()
    features = trained.features(dataset.test.images)
    assert np.abs(features).max() < trained.input_bound
    assert figures(dataset.test.labels, trained.scores(features)).auc > 0.95
    assert share_outside(trained.head, trained.features(dataset.train.images), RANGE + 1e-9) == 0
    assert [str(layer) for layer in trained.head.layers] == ["linear 64 to 8", "x^2", "linear 8 to 2"]


def test_same_seed_gives_the_same_bytes_with_any_number_of_threads(trained: Bundle, small_recipe: Recipe) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(123)  # the caller's RNG state must not matter
    try:
        again = train(toy(), width=64, hidden=8, recipe=small_recipe)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert again.to_bytes() == trained.to_bytes()
    other = train(toy(), width=64, hidden=8, recipe=small_recipe, seed=1)
    assert other.to_bytes() != trained.to_bytes()


def test_training_leaves_global_rng_untouched(small_recipe: Recipe) -> None:
    torch.manual_seed(5)
    train(toy(), width=16, head="linear", recipe=replace(small_recipe, epochs=1))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def test_training_without_test_images_gives_the_same_model(trained: Bundle, small_recipe: Recipe) -> None:
    dataset = toy()
    empty = Split(dataset.test.images[:0], dataset.test.labels[:0])
    again = train(replace(dataset, test=empty), width=64, hidden=8, recipe=small_recipe)
    assert again.head.digest == trained.head.digest
    assert again.training["validation"] == trained.training["validation"]


def test_the_epoch_is_chosen_on_validation_and_training_stops_early(small_recipe: Recipe) -> None:
    seen: list[Epoch] = []
    bundle = train(
        toy(), width=16, head="linear", recipe=replace(small_recipe, epochs=30, patience=2), progress=seen.append
    )
    best = min(seen, key=lambda epoch: epoch.val_loss)
    assert bundle.training["chosen_epoch"] == best.number
    assert [epoch.number for epoch in seen if epoch.best][-1] == best.number
    assert len(seen) <= 30
    assert len(seen) == 30 or seen[-1].number == best.number + 2


@pytest.mark.parametrize("head", ["linear", "mlp", "cubic"])
def test_every_kind_of_head_exports_its_own_scores(head: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = make(head, 32, 3, 8)
        for _ in range(5):
            module(torch.randn(64, 32) + 1)
    features = np.random.default_rng(0).normal(size=(20, 32))
    with torch.inference_mode():
        scores, _ = module.double().eval()(torch.from_numpy(features))
    np.testing.assert_allclose(module.export().evaluate(features), scores.numpy(), atol=1e-9)


def test_blended_images_train_and_wrong_widths_and_heads_are_refused(small_recipe: Recipe) -> None:
    bundle = train(toy(), width=16, head="linear", recipe=replace(small_recipe, epochs=2, mixup=0.4))
    assert bundle.training["recipe"]["mixup"] == 0.4
    with pytest.raises(InputError, match="16 to 4096"):
        train(toy(), width=8, recipe=small_recipe)
    with pytest.raises(HeadError, match="no head of the kind 'deep'"):
        train(toy(), width=16, head="deep", recipe=small_recipe)


def test_colour_sets_of_several_classes_train(small_recipe: Recipe) -> None:
    grey = toy(classes=4)

    def coloured(split: Split) -> Split:
        return Split(np.stack([split.images, split.images // 2, 255 - split.images], axis=3), split.labels)

    parts = [coloured(split) for _, split in grey.splits()]
    dataset = Dataset("colour", grey.classes, "multi-class", *parts, orientation="fixed")
    bundle = train(dataset, width=32, recipe=replace(small_recipe, epochs=2))
    assert bundle.scores(bundle.features(dataset.test.images)).shape == (64, 4)


# Heads alone


def test_a_head_with_relu_is_trained_for_comparison_and_not_exported() -> None:
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(256, 16)), random.integers(0, 2, 256)
    features[:, 0] += 2 * labels
    trained = train_head(features, labels, features[:64], labels[:64], classes=2, kind="relu")
    assert trained.head is None
    assert figures(labels, trained.evaluate(features)).auc > 0.8
    with pytest.raises(HeadError, match="ReLU cannot be computed under encryption"):
        trained.module.export()


def test_a_cubic_that_leaves_its_range_on_one_image_is_not_chosen() -> None:
    random = np.random.default_rng(0)
    features, labels = random.normal(size=(256, 16)), random.integers(0, 2, 256)
    features[:, 0] += 2 * labels
    trained = train_head(features, labels, features[:64], labels[:64], classes=2, kind="cubic", epochs=4)
    assert trained.head is not None
    into_range(trained.head, features, RANGE)
    features[0] *= 200  # an image that no epoch can keep in range
    with pytest.raises(TrainingError, match="No epoch gave a head that can be computed under encryption"):
        train_head(features, labels, features[:64], labels[:64], classes=2, kind="cubic", epochs=4)


def test_inputs_of_squares_are_brought_into_range_without_changing_scores() -> None:
    random = np.random.default_rng(0)
    head = Head(
        (
            Linear(random.normal(size=(6, 12)) * 3, random.normal(size=6)),
            Polynomial((0.0, 0.0, 1.0)),
            Linear(random.normal(size=(2, 6)), random.normal(size=2)),
        )
    )
    features = random.normal(size=(50, 12))
    ranged, found = into_range(head, features, RANGE)
    np.testing.assert_allclose(ranged.evaluate(features), head.evaluate(features), rtol=1e-9)
    assert found[0].reached <= RANGE + 1e-9
    assert share_outside(head, features, RANGE) > 0.5
    square = ranged.layers[1]
    assert isinstance(square, Polynomial)
    np.testing.assert_allclose(square.rms, np.sqrt((inputs(ranged, 1, features) ** 2).mean(axis=0)), rtol=1e-5)
    cubic = Head((head.layers[0], Polynomial((0.0, 1.0, 0.0, 0.1)), head.layers[2]))
    with pytest.raises(HeadError, match=r"beyond 1.5 times the 4"):
        into_range(cubic, features, RANGE)


# Calibration


def test_calibration_never_makes_validation_worse_and_is_folded_exactly() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 400)
    logits = random.normal(size=(400, 3)) + 1.5 * np.eye(3)[labels]
    skewed = 0.4 * logits + np.array([0.0, 1.0, -1.0])
    found = calibrated(skewed, labels)
    before, after = figures(labels, skewed), figures(labels, found.applied(skewed))
    assert after.ece < before.ece
    assert after.accuracy > before.accuracy
    head = Head((Linear(random.normal(size=(3, 5)), random.normal(size=3)),))
    features = random.normal(size=(7, 5))
    np.testing.assert_allclose(found.folded(head).evaluate(features), found.applied(head.evaluate(features)))


def test_perfectly_separated_validation_keeps_scores_bounded() -> None:
    labels = np.arange(20) % 2
    found = calibrated(np.eye(2)[labels] * 0.1, labels)
    assert found.factor <= 4


def test_few_validation_images_decide_no_offsets() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [40, 60])
    logits = 0.4 * (random.normal(size=(100, 2)) + 1.5 * np.eye(2)[labels]) + np.array([0.0, 1.0])
    found = calibrated(logits, labels)
    assert found.offsets.tolist() == [0.0, 0.0]
    assert found.factor != 1.0
    assert calibrated(np.tile(logits, (2, 1)), np.tile(labels, 2)).offsets[0] > 0.1


# Parts


def test_averaged_weights_are_in_place_only_within_the_context() -> None:
    module = torch.nn.Linear(2, 1)
    average = Average(module, 0.5)
    with torch.no_grad():
        module.weight.fill_(4.0)
    average.update()
    with average.in_place():
        assert not torch.equal(module.weight, torch.full((1, 2), 4.0))
    assert torch.equal(module.weight, torch.full((1, 2), 4.0))


@pytest.mark.parametrize("orientation", ["fixed", "mirror", "any"])
def test_augmentation_is_drawn_from_its_generator_alone(orientation: str) -> None:
    images = torch.randn(8, 1, 16, 16)
    one, two = (Augmentation().apply(images, orientation, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == images.shape
    none = Augmentation(0, 0, 0, 0, 0).apply(images, "fixed", torch.Generator().manual_seed(3))
    torch.testing.assert_close(none, images, atol=1e-4, rtol=1e-4)


def test_preprocessing_takes_single_images_of_any_size_and_depth() -> None:
    random = np.random.default_rng(0)
    plain = Preprocessing.fit(random.integers(0, 255, (9, 20, 20), dtype=np.uint8), size=16, channels=1)
    deep = random.integers(0, 65535, (40, 30)).astype(np.uint16)
    given = plain.apply([deep, np.zeros((16, 16, 3), np.uint8), deep.astype(np.float32) / 65535])
    assert given.shape == (3, 1, 16, 16)
    torch.testing.assert_close(given[0], given[2], atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="not numbers"):
        plain.apply([np.full((20, 20), np.nan)])
    with pytest.raises(InputError, match="No image"):
        plain.apply([])
    with pytest.raises(InputError, match=r"image\[None\]"):
        plain.apply(deep)
    with pytest.raises(InputError, match="Expected uint8"):
        plain.apply(np.zeros((1, 16, 16), np.int64))


def test_one_thread_setting_ends_with_its_context() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_pneumoniamnist_reaches_the_published_figures() -> None:
    """ResNet-18 at 28 x 28 reaches an accuracy of 0.854 and an AUC of 0.944 (Yang et al. 2023)."""
    dataset = named("pneumoniamnist")
    bundle = train(dataset)
    found = figures(dataset.test.labels, bundle.scores(bundle.features(dataset.test.images)))
    assert found.accuracy > 0.86
    assert found.auc > 0.95


# Towers


def test_a_small_set_is_learned_by_towers_whose_mean_the_head_computes(small_recipe: Recipe) -> None:
    dataset = toy()
    recipe = replace(small_recipe, epochs=2, towers=2, calibrate=False)
    seen: list[Epoch] = []
    bundle = train(dataset, width=128, hidden=8, seed=3, recipe=recipe, progress=seen.append)
    assert [str(layer) for layer in bundle.head.layers] == ["linear 128 to 8", "x^2", "linear 8 to 2"]
    assert [(epoch.number, epoch.of) for epoch in seen] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    alone = [train(dataset, width=64, hidden=4, seed=seed, recipe=recipe) for seed in (6, 7)]
    assert bundle.training["chosen_epoch"] == [one.training["chosen_epoch"] for one in alone]
    images = dataset.test.images
    wanted = np.mean([one.scores(one.features(images)) for one in alone], axis=0)
    np.testing.assert_allclose(bundle.scores(bundle.features(images)), wanted, atol=1e-9)
    assert share_outside(bundle.head, bundle.features(dataset.train.images), RANGE + 1e-9) == 0


def test_bundle_with_towers_is_read_back_and_damaged_one_refused(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        networks = [Cnn(CnnConfig(in_channels=1, size=8, width=16, channels=(2,))) for _ in range(3)]
    towers = Towers.of(networks).eval()
    images = torch.rand(5, 1, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(towers(images), torch.cat([one(images) for one in networks], dim=1))
    extractor = export(towers, channels=1, size=8, images=images.numpy())
    with torch.inference_mode():
        np.testing.assert_allclose(extractor.run(images.numpy()), towers(images).numpy(), atol=1e-5)
    assert extractor.width == 48


def test_towers_are_taken_only_for_small_sets_and_heads_that_can_be_joined() -> None:
    dataset = toy()
    assert Recipe().towers_for(dataset) == 8
    assert Recipe().towers_for(dataset, width=128) == 2
    assert Recipe().towers_for(dataset, width=512, hidden=30) == 2  # divides both, as 3 to 8 do not
    assert Recipe(towers=2).towers_for(dataset, "linear", 128) == 2
    assert Recipe(towers=1).towers_for(dataset) == 1
    for head, width, hidden in (("cubic", 512, 64), ("conv", 1024, None), ("mlp", 64, 64), ("mlp", 511, 64)):
        assert Recipe().towers_for(dataset, head, width, hidden) == 1
    assert Recipe().towers_for(replace(dataset, patients={"a": {"train": 3}, "b": {"train": 5}})) == 1
    many = Split(np.zeros((2000, 8, 8), dtype=np.uint8), np.arange(2000) % 2)
    assert Recipe().towers_for(replace(dataset, train=many)) == 1
    square, cube = Polynomial((0.0, 0.0, 1.0)), Polynomial((0.0, 0.0, 0.0, 1.0))
    narrow = Linear(np.ones((2, 2)), np.zeros(2))
    with pytest.raises(HeadError, match="can be joined"):
        joined([Head((narrow, square, narrow)), Head((narrow, cube, narrow))])
    with pytest.raises(HeadError, match="can be joined"):
        joined([Head((narrow, square, narrow)), Head((narrow,))])
    with pytest.raises(InputError, match="of the same shape"):
        Towers.of([])


def test_class_weights_are_undone_by_the_training_shares() -> None:
    scores = np.random.default_rng(0).normal(size=(400, 2))
    labels = (np.arange(400) % 4 == 0).astype(np.int64)
    weight = np.array([400 / (2 * 300), 400 / (2 * 100)])
    given = {"shares": np.array([0.75, 0.25])}
    training, balanced = (Prevalence.read(name, ("a", "b")) for name in ("training", "balanced"))
    found = fit_calibration(scores, labels, weight, prevalence=training, fit=False, **given)
    assert found is not None
    # Scores without information give the shares: log(300 / 100) between the two classes.
    difference = found.applied(np.zeros((1, 2)))[0]
    np.testing.assert_allclose(difference[0] - difference[1], np.log(3))
    assert fit_calibration(scores, labels, weight, prevalence=balanced, fit=False, **given) is None
    fitted = fit_calibration(scores, labels, weight, prevalence=training, **given)
    assert fitted is not None
    np.testing.assert_allclose(softmax(fitted.applied(scores)).mean(axis=0), [0.75, 0.25], atol=0.05)


def _draw_scores(sick: int, well: int, seed: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores of images whose log-odds at equal shares are 2 x: x is normal around -1 or 1 with deviation 1."""
    random = np.random.default_rng(seed)
    labels = np.array([0] * well + [1] * sick)
    x = random.normal(2 * labels - 1)
    return np.stack([-x, x], axis=1), labels


@pytest.mark.parametrize("fit", [True, False])
def test_site_shares_calibrate_images_of_other_shares(fit: bool) -> None:
    """Training and validation images are 3/4 ill, those of the site 1/10."""
    scores, labels = _draw_scores(3000, 1000, 0)
    weight, shares = np.array([2.0, 2 / 3]), np.array([0.25, 0.75])
    site_scores, site_labels = _draw_scores(1000, 9000, 1)
    reached = {}
    for text in ("training", "balanced", "well=0.9,ill=0.1"):
        prevalence = Prevalence.read(text, ("well", "ill"))
        found = fit_calibration(scores, labels, weight, prevalence=prevalence, shares=shares, fit=fit)
        applied = site_scores if found is None else found.applied(site_scores)
        reached[text] = figures(site_labels, applied).ece, softmax(applied).mean(axis=0)[1]
    error, mean = reached["well=0.9,ill=0.1"]
    assert mean == pytest.approx(0.1, abs=0.02)
    assert error < 0.02
    assert reached["training"][0] > 3 * error
    assert reached["balanced"][0] > error


@pytest.mark.parametrize(
    "text", ["unknown", "well=0.5", "well=0.5,ill=0.6", "well=0,ill=1", "well=a,ill=0.5", "well=.5,well=.5,ill=.5", ""]
)
def test_unusable_prevalence_gives_one_line_with_an_example(text: str) -> None:
    with pytest.raises(InputError, match="well=SHARE,ill=SHARE") as caught:
        Prevalence.read(text, ("well", "ill"))
    assert "\n" not in str(caught.value)


def test_trained_bundle_states_the_site_shares_that_its_probabilities_assume() -> None:
    recipe = Recipe(epochs=1, towers=1)
    plain, moved = (
        train(toy(), seed=1, recipe=replace(recipe, prevalence=text))
        for text in ("training", "corner 0=0.9,corner 1=0.1")
    )
    assert moved.card["assumed_prevalence"] == {"corner 0": 0.9, "corner 1": 0.1}
    assert "assumed_prevalence" not in plain.card
    images = toy().test.images
    before, after = (bundle.scores(bundle.features(images)) for bundle in (plain, moved))
    difference = (after[:, 0] - after[:, 1]) - (before[:, 0] - before[:, 1])
    np.testing.assert_allclose(difference, np.log(9), atol=1e-4)
