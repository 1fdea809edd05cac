"""Trains extractor and head together, chooses on the validation split only, and checks the head before export."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import convert_conv2d_weight_memory_format

from models.bundle import Bundle, versions
from models.card import make_card
from models.datasets.dataset import Dataset
from models.errors import HeadError, TrainingError
from models.extractors.cnn import Cnn, CnnConfig
from models.extractors.export import export
from models.extractors.towers import Towers, joined
from models.guard import Guard
from models.heads.calibration import fit_calibration
from models.heads.prevalence import Prevalence
from models.heads.ranges import into_range
from models.heads.trainable import HIDDEN, KINDS, MAP_SIDE, OFFSET, RANGE, TrainableHead, make
from models.images.preprocessing import Preprocessing
from models.metrics import figures
from models.training.augment import Augmentation
from models.training.averaging import Average
from models.training.schedule import schedule_one_cycle
from models.training.threads import one_thread

Progress = Callable[["Epoch"], None]

_SMALL = 2000
"""Sets with fewer training images are learned by several towers."""
_PROBES = 32
"""Validation images on which the exported extractor is compared with the trained one."""
_LEAST_WIDTH = 64
"""Least number of features of a tower."""


@dataclass(frozen=True)
class Epoch:
    """Progress after one pass over the training images."""

    number: int
    """From 1."""
    of: int
    loss: float
    """Mean training loss."""
    val_accuracy: float
    val_auc: float
    val_loss: float
    """Class-balanced cross-entropy on the validation images; the epoch is chosen by it."""
    best: bool
    """Whether this is the best epoch so far."""
    seconds: float
    """Seconds since training began."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a training. The defaults suit sets from a few hundred to some ten thousand images on two cores."""

    epochs: int | None = None
    """Passes over the training images; None: so many that about `images` are shown, between 3 and 80."""
    images: int | None = None
    """Training images shown in all, where `epochs` is None; None: as the data set suits."""
    batch: int = 64
    rate: float = 2e-3
    """Peak learning rate of AdamW under one cycle (Smith and Topin 2018)."""
    decay: float = 0.05
    smoothing: float = 0.05
    """Label smoothing."""
    penalty: float = 0.05
    """Weight of the penalty that keeps activation inputs in range."""
    average: float = 0.995
    """Decay of the running average of the weights, which is what is validated and exported."""
    balanced: bool = True
    """Whether rare classes weigh more, so that each class counts alike."""
    augmentation: Augmentation | None = None
    """None: as the data set suits."""
    largest_side: int = 64
    """Images are reduced to this side, to keep training on a CPU within minutes."""
    channels: tuple[int, ...] = (24, 48, 96)
    """Channels of the extractor's stages."""
    scaling: str | None = None
    """`dataset` or `image`, see `Preprocessing`; None: as the data set suits."""
    mixup: float = 0.0
    """Parameter of the Beta distribution by which images are blended in pairs (Zhang et al. 2018); 0: they are not."""
    patience: int | None = None
    """Training stops after so many passes without a better validation loss; None: it runs to the end."""
    towers: int = 8
    """The most networks that a set of fewer than 2000 training images is learned by, each with its share of the
    features and of the hidden layer; see `towers` and `Recipe.towers_for`."""
    offset: float = OFFSET
    """Initial offset of the inputs of an `mlp` head's x^2."""
    calibrate: bool = True
    """Whether temperature and offsets of the scores are fitted on the validation images; see `calibration`."""

    prevalence: str = "balanced"
    """Shares of the classes that the probabilities assume. `balanced`: equal shares, as the weights of rare classes
    imply. `training`: those of the training images; the last bias undoes the weights. `normal=0.4,pneumonia=0.6`: those
    of the place of use; see `Prevalence.read`."""

    def suited_to(self, dataset: Dataset) -> "Recipe":
        """The recipe with what it leaves open filled in for a set.

        A network soon overfits to the pictures of a handful of patients, so fewer are shown. Validation images of the
        same few patients cannot calibrate the scores, so calibration is left out.
        """
        few = dataset.few_patients
        images = self.images or (12_000 if few else 60_000)
        passes = min(max(round(images / max(len(dataset.train), 1)), 3), 80)
        return replace(
            self,
            images=images,
            epochs=self.epochs if self.epochs is not None else passes,
            augmentation=self.augmentation or Augmentation(),
            calibrate=self.calibrate and not few,
        )

    def towers_for(self, dataset: Dataset, head: str = "mlp", width: int = 512, hidden: int | None = None) -> int:
        """Number of networks trained side by side: as many as fit, `towers` at the most.

        One for sets of 2000 training images or more, and for those of a handful of patients, where every network errs
        alike; and for heads that cannot be joined: those with a convolution, and with a polynomial that each tower
        would learn anew. Otherwise each has 64 features or more, and the same share of features and hidden values.
        """
        if head not in ("linear", "mlp") or len(dataset.train) >= _SMALL or dataset.few_patients:
            return 1
        most = max(1, min(self.towers, width // _LEAST_WIDTH))
        return next(n for n in range(most, 0, -1) if not width % n and not (hidden or HIDDEN) % n)


def train(
    dataset: Dataset,
    *,
    head: str = "mlp",
    width: int | None = None,
    hidden: int | None = None,
    seed: int = 0,
    policy: str = "hidden",
    name: str | None = None,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
) -> Bundle:
    """Train on `dataset.train`, choose the epoch on `dataset.val`; `dataset.test` is not looked at.

    Args:
        dataset: see `models.datasets.load`.
        head: `linear`, `mlp` (hidden layer and x^2), `cubic` (hidden layer and a learned cubic), or `conv`: the
            extractor then ends one block earlier, and that block is the head.
        width: length of the feature vector, 16 to 4096; 512 by default, and 1024 for `conv`, which takes maps of 8 x 8
            and so a multiple of 64.
        hidden: size of the hidden layer of `mlp` and `cubic`, 64 by default; of `conv`: channels of its convolution,
            as many as come in by default.
        seed: decides weights, order and augmentation; the same seed and versions give the same bundle, since
            training runs on one thread.
        policy: `hidden` or `open`, recorded in the bundle.
        name: the bundle's name; the data set's and the head's by default.
        recipe: epochs, rates and augmentation; what it leaves open is filled in to suit the data set.
        progress: called after each epoch.

    Raises:
        TrainingError: the training diverged, or activations leave the range in which the head may be evaluated.
        InputError, HeadError: a width, size, kind of head or prevalence that is not supported; images that were resized
            to more than `recipe.largest_side` when they were read.
    """
    width = width or (1024 if head == "conv" else 512)
    with one_thread():
        return _train(
            dataset, head, width, hidden, seed, policy, name, (recipe or Recipe()).suited_to(dataset), progress
        )


def _train(
    dataset: Dataset,
    head: str,
    width: int,
    hidden: int | None,
    seed: int,
    policy: str,
    name: str | None,
    recipe: Recipe,
    progress: Progress | None,
) -> Bundle:
    prevalence = Prevalence.read(recipe.prevalence, dataset.classes)
    count = recipe.towers_for(dataset, head, width, hidden)
    trainers, best = [], []
    for tower in range(count):
        share = hidden if count == 1 else (hidden or HIDDEN) // count
        one = _Trainer(dataset, head, width // count, share, seed * count + tower, recipe)
        best.append(one.run(None if progress is None else _shift(progress, tower, count)))
        trainers.append(one)
    trainer = trainers[0]
    extractor = trainer.extractor if count == 1 else Towers.of([one.extractor for one in trainers])
    exported = trainer.head.export() if count == 1 else joined([one.head.export() for one in trainers])
    features, val_features = (
        np.concatenate([one.features(one.inputs[split]) for one in trainers], axis=1) for split in ("train", "val")
    )
    scores, val_labels = exported.evaluate(val_features), trainer.labels["val"].numpy()
    reached = figures(val_labels, scores)
    weight = trainer.class_weight.double().numpy() if recipe.balanced else None
    shares = np.bincount(dataset.train.labels, minlength=len(dataset.classes)) / len(dataset.train)
    calibration = fit_calibration(
        scores, val_labels, weight, prevalence=prevalence, shares=shares, fit=recipe.calibrate
    )
    if calibration is not None:
        exported = calibration.folded(exported)
    try:
        exported, ranges = into_range(exported, features, RANGE)
    except HeadError as error:
        raise TrainingError(str(error)) from error
    return Bundle(
        name=name or f"{dataset.name}-{head}",
        classes=dataset.classes,
        preprocessing=trainer.preprocessing,
        extractor=export(
            extractor,
            channels=dataset.channels,
            size=trainer.preprocessing.size,
            images=trainer.inputs["val"][:_PROBES].numpy(),
        ),
        head=exported,
        input_bound=trainer.extractor.config.bound,
        policy=policy,
        training={
            "seed": seed,
            "head": head,
            "data": {
                "name": dataset.name,
                "digest": dataset.digest,
                "train": len(dataset.train),
                "val": len(dataset.val),
                **({"values": dict(dataset.values)} if dataset.values else {}),
            },
            "recipe": asdict(recipe),
            "chosen_epoch": best[0].number if count == 1 else [one.number for one in best],
            "validation": {"accuracy": round(reached.accuracy, 6), "auc": _json_number(reached.auc)},
            "calibration": None if calibration is None else calibration.to_json(),
            "activation_range": [asdict(one) for one in ranges],
        },
        versions=versions(),
        guard=Guard.fit(features, val_features),
        card=make_card(
            dataset, size=trainer.preprocessing.size, scores=exported.evaluate(val_features), site=prevalence.site
        ),
    )


class _Trainer:
    """Network, data and optimiser of one training."""

    def __init__(self, dataset: Dataset, kind: str, width: int, hidden: int | None, seed: int, recipe: Recipe) -> None:
        self.recipe = recipe
        self.orientation = dataset.orientation
        size = min(recipe.largest_side, *dataset.size)
        dataset.check_size(size)
        self.preprocessing = Preprocessing.fit(
            dataset.train.images,
            size=size,
            channels=dataset.channels,
            scaling=recipe.scaling or dataset.scaling,
        )
        self.inputs = {
            name: torch.from_numpy(self.preprocessing.apply(getattr(dataset, name).images)) for name in ("train", "val")
        }
        self.labels = {name: torch.from_numpy(getattr(dataset, name).labels) for name in ("train", "val")}
        counts = torch.bincount(self.labels["train"], minlength=len(dataset.classes)).float()
        present = int((counts > 0).sum())
        self.class_weight = torch.where(counts > 0, counts.sum() / (present * counts.clamp_min(1)), counts)
        # Weights are drawn in a forked state of the global generator, so that the caller's RNG state is unchanged.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            side = MAP_SIDE if kind == "conv" else 0
            shape = CnnConfig(dataset.channels, size, width, channels=recipe.channels, map_side=side)
            # Convolutions are a fifth faster where weights and maps keep the channels of a pixel side by side.
            self.extractor = convert_conv2d_weight_memory_format(Cnn(shape), torch.channels_last)
            self.head: TrainableHead = make(kind, width, len(dataset.classes), hidden, recipe.offset)
        self.seed = seed
        self.network = nn.ModuleList([self.extractor, self.head])
        self.generator = torch.Generator().manual_seed(seed)
        self.chance = np.random.default_rng(seed)

    def run(self, progress: Progress | None) -> Epoch:
        """Train; leaves the chosen weights in place and returns the chosen epoch."""
        count = len(self.labels["train"])
        batch = min(self.recipe.batch, count)
        epochs = self.recipe.epochs or 1
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=self.recipe.rate, weight_decay=self.recipe.decay, fused=True
        )
        schedule = schedule_one_cycle(optimiser, self.recipe.rate, epochs * (count // batch))
        average = Average(self.network, self.recipe.average)
        began = time.monotonic()
        best: Epoch | None = None
        chosen: dict[str, Tensor] = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)  # dropout draws from the global generator
            for number in range(1, epochs + 1):
                loss = self._epoch(optimiser, schedule, average, batch)
                if not math.isfinite(loss):
                    raise TrainingError(
                        "The training diverged: its loss is no longer a number. Lower the learning rate."
                    )
                with average.in_place():
                    epoch = self._validate(number, epochs, loss, best, time.monotonic() - began)
                if epoch.best:
                    best, chosen = epoch, average.copy()
                if progress is not None:
                    progress(epoch)
                patience = self.recipe.patience
                if patience is not None and number - (best.number if best else 0) >= patience:
                    break
        if best is None:
            raise TrainingError("No epoch gave a usable validation figure. Check the validation images and labels.")
        self.network.load_state_dict(chosen)
        self.network.eval()
        return best

    def features(self, inputs: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Features of preprocessed images, float64."""
        self.network.eval()
        with torch.inference_mode():
            parts = [self.extractor(inputs[start : start + 256]) for start in range(0, len(inputs), 256)]
        return np.asarray(torch.cat(parts).double().numpy())

    def _epoch(
        self,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        average: "Average",
        batch: int,
    ) -> float:
        self.network.train()
        inputs, labels = self.inputs["train"], self.labels["train"]
        augmentation = self.recipe.augmentation or Augmentation()
        order = torch.randperm(len(labels), generator=self.generator)
        total, steps = 0.0, len(labels) // batch
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            images = augmentation.apply(inputs[chosen], self.orientation, self.generator)
            share, other = 1.0, chosen
            if self.recipe.mixup:
                share = float(self.chance.beta(self.recipe.mixup, self.recipe.mixup))
                mixed = torch.randperm(batch, generator=self.generator)
                images, other = share * images + (1 - share) * images[mixed], chosen[mixed]
            scores, penalty = self.head(self.extractor(images.contiguous(memory_format=torch.channels_last)))
            loss = share * self._loss(scores, labels[chosen])
            if share < 1:
                loss = loss + (1 - share) * self._loss(scores, labels[other])
            optimiser.zero_grad()
            (loss + self.recipe.penalty * penalty).backward()
            optimiser.step()
            schedule.step()
            average.update()
            total += float(loss.detach())
        return total / steps

    def _loss(self, scores: Tensor, labels: Tensor) -> Tensor:
        weight = self.class_weight if self.recipe.balanced else None
        return functional.cross_entropy(scores, labels, weight=weight, label_smoothing=self.recipe.smoothing)

    def _validate(self, number: int, of: int, loss: float, best: Epoch | None, seconds: float) -> Epoch:
        features = self.features(self.inputs["val"])
        scores = self.head.export().evaluate(features)
        reached = figures(self.labels["val"].numpy(), scores)
        val_loss = float(
            functional.cross_entropy(torch.from_numpy(scores), self.labels["val"], weight=self.class_weight.double())
        )
        better = math.isfinite(val_loss) and (best is None or val_loss < best.val_loss)
        return Epoch(number, of, loss, reached.accuracy, reached.auc, val_loss, better, seconds)


def _shift(progress: Progress, tower: int, count: int) -> Progress:
    """The progress of one tower as a part of the whole: its epochs counted on from those of the towers before it."""
    return lambda epoch: progress(replace(epoch, number=tower * epoch.of + epoch.number, of=count * epoch.of))


def _json_number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


__all__ = ["KINDS", "Epoch", "Progress", "Recipe", "train"]
