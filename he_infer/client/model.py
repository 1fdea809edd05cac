"""The model as the client knows it, from a client's part or a whole bundle. A server's offer must match it.

Parameters, precision, layouts, scales and bounds are taken from this file, never from the server. The digests of the
server's head and plans must equal those of this file.
"""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from he_infer.ckks.planning.plan import Plan
from he_infer.ckks.planning.search import make_plan
from he_infer.client.served_model import ServedModel
from he_infer.client.verify.canaries import system_generator
from he_infer.errors import HeInferError, NotAuthentic, NotThisFormat, ProtocolMismatch, UsageError
from he_infer.head.bundle import make_model_id
from he_infer.head.bundle_file import CLIENT, SERVER, BundleFile
from he_infer.head.score_bounds import bound_scores
from he_infer.publication.parts import ClientPart
from he_infer.publication.plans import PRECISION

if TYPE_CHECKING:
    from models.feature_model import FeatureModel

_QUESTIONS = 8
_TYPICAL = 0.25


@dataclass(frozen=True, eq=False)
class ClientModel:
    """The data of a model that a client needs and that a server's offer must match."""

    path: Path
    file: BundleFile = field(repr=False)
    head_digest: str
    plans: tuple[Plan, ...] | None
    """The published plans, by batch size; None for a whole bundle, which holds no plans."""
    score_bounds: NDArray[np.float64] = field(repr=False)
    """(classes, 2) minimum and maximum score of each class."""
    questions: NDArray[np.float64] = field(repr=False)
    """(q, width) canary questions."""
    answers: NDArray[np.float64] = field(repr=False)
    """(q, classes) scores of the canary questions."""
    publisher: str | None
    """Ed25519 public key of the part's publisher, hex; None for a whole bundle."""
    precision: float = PRECISION
    """Largest accepted error of a score, for the plans of a whole bundle."""

    @staticmethod
    def load(path: Path, *, precision: float = PRECISION) -> "ClientModel":
        """Read a client's part, or a whole bundle.

        Args:
            path: the file.
            precision: largest accepted error of a score, for a whole bundle; a part states its own.

        Raises:
            NotThisFormat, UnsupportedVersion, DamagedBundle, HeadError, OSError: as `BundleFile.load`; also for the
                server's part, which has no extractor.
            NotAuthentic: a part was changed after it was published.
        """
        file = BundleFile.load(path)
        if file.part == SERVER:
            raise NotThisFormat(f"{path} is the server's part of a model; the client needs the client's part.")
        if file.part == CLIENT:
            part = ClientPart.of(path, file)
            return ClientModel(
                path,
                file,
                part.publication.head,
                part.plans,
                part.score_bounds,
                part.questions,
                part.answers,
                part.publication.publisher,
            )
        head = file.head
        questions = system_generator().normal(0.0, _TYPICAL * file.input_bound, (_QUESTIONS, head.width))
        questions = np.clip(questions, -file.input_bound, file.input_bound)
        bounds = bound_scores(head, file.input_bound)
        return ClientModel(
            path, file, head.digest, None, bounds, questions, head.evaluate(questions), None, precision=precision
        )

    @property
    def whole(self) -> bool:
        """Whether the file is a whole bundle, which includes the head."""
        return self.plans is None

    @property
    def name(self) -> str:
        """The model's name for users."""
        return self.file.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the scores."""
        return self.file.classes

    @cached_property
    def id(self) -> str:
        """The model's id at a server."""
        return make_model_id(self.file.name, self.head_digest)

    @property
    def width(self) -> int:
        """Number of features."""
        return int(self.questions.shape[1])

    def expect(self, offers: list[ServedModel]) -> ServedModel:
        """Find this model among a server's offers; returns it with this file's own plans.

        Raises:
            UsageError: the server offers no such model.
            NotAuthentic: a model of this name has another head.
            ProtocolMismatch: the offered plans, classes, policy or bound differ from the published ones.
        """
        offer = next((offer for offer in offers if offer.id == self.id), None)
        if offer is None:
            if any(offer.name == self.name for offer in offers):
                raise NotAuthentic(
                    f"The server's model '{self.name}' has another head than {self.path} names. One of the two is of "
                    "another publication: fetch both parts from the model's owner."
                )
            names = ", ".join(offer.id for offer in offers) or "none"
            raise UsageError(
                f"The server offers no model '{self.id}'; it serves: {names}. Use the part of a model that it serves."
            )
        if offer.head_digest != self.head_digest:
            raise NotAuthentic(f"The server's head of {self.id} is not the one that {self.path} names.")
        plans = self._own_plans(offer)
        stated = (offer.classes, offer.policy, offer.input_bound, {plan.digest for plan in offer.plans})
        if stated != (self.classes, self.file.policy, self.file.input_bound, {plan.digest for plan in plans}):
            raise ProtocolMismatch(
                f"The server offers {self.id} with other plans, classes, policy or bound than {self.path} states. It "
                "must serve the server's part of the same publication; nothing was sent."
            )
        return ServedModel(
            id=self.id,
            name=self.name,
            classes=self.classes,
            policy=self.file.policy,
            head_digest=self.head_digest,
            input_bound=self.file.input_bound,
            plans=plans,
            needs_keys=any(plan.needs_keys for plan in plans),
        )

    @cached_property
    def feature_model(self) -> "FeatureModel":
        """Preprocessing, extractor, guard and model card, loaded at first use.

        Raises:
            DamagedBundle: the components do not fit together, or the extractor has an unsupported form.
        """
        from models.feature_model import FeatureModel

        return FeatureModel.from_file(self.path, self.file)

    def _own_plans(self, offer: ServedModel) -> tuple[Plan, ...]:
        if self.plans is not None:
            return self.plans
        try:
            return tuple(
                make_plan(
                    self.file.head,
                    batch=plan.batch,
                    policy=self.file.policy,
                    precision=self.precision,
                    input_bound=self.file.input_bound,
                )
                for plan in offer.plans
            )
        except HeInferError as error:
            raise ProtocolMismatch(f"The server offers a plan that {self.path} does not give: {error}") from error
