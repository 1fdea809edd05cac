"""The owner's step of the demo: a bundle of the small network, or of a pretrained one."""

from he_infer.demo.options import CNN, DemoOptions
from he_infer.demo.progress import Step
from models.backbone import train_on_backbone
from models.bundle import Bundle
from models.datasets import Dataset
from models.training.train import Epoch, Recipe, train

_PRETRAINED_SIDE = 96
"""Side in pixels of a pretrained network's input, chosen on training patients: see docs/models.md."""


def find_input_side(options: DemoOptions) -> int | None:
    """Side in pixels of the given network's input, to which images of folders are resized; None: it is trained."""
    return None if options.chosen_extractor == CNN else _PRETRAINED_SIDE


def train_model(dataset: Dataset, options: DemoOptions, step: Step) -> Bundle:
    """Train a model on `dataset.train`, show the progress of it, and describe it as the step's result.

    Raises:
        ModelsError: see `train` and `train_on_backbone`.
    """
    if options.chosen_extractor == CNN:
        return _train_cnn(dataset, options, step)
    bundle = train_on_backbone(
        options.chosen_extractor,
        dataset,
        size=_PRETRAINED_SIDE,
        head=options.head,
        seed=options.seed,
        prevalence="balanced",
        progress=step.update,
    )
    step.result = (
        f"head trained on {bundle.head.width} features of {options.chosen_extractor}; "
        f"validation accuracy {bundle.training['validation']['accuracy']:.3f}"
    )
    return bundle


def _train_cnn(dataset: Dataset, options: DemoOptions, step: Step) -> Bundle:
    shown: list[Epoch] = []

    def progress(epoch: Epoch) -> None:
        shown.append(epoch)
        step.update(epoch.number, epoch.of)

    recipe = Recipe(epochs=options.epochs, towers=1)  # one network, to keep the demo short
    bundle = train(dataset, head=options.head, seed=options.seed, recipe=recipe, progress=progress)
    best = [epoch for epoch in shown if epoch.best][-1]
    step.result = f"{bundle.head.width} features; validation accuracy {best.val_accuracy:.3f} at epoch {best.number}"
    return bundle
