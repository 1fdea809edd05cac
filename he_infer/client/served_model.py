"""The models that a server offers, with their plans, parsed and checked."""

from dataclasses import dataclass

from he_infer.ckks.planning.plan import Plan
from he_infer.errors import ProtocolMismatch
from he_infer.wire.bodies import ModelInfo, PlanInfo


@dataclass(frozen=True)
class ServedModel:
    """A model as the server offers it."""

    id: str
    name: str
    classes: tuple[str, ...]
    policy: str
    head_digest: str
    input_bound: float
    plans: tuple[Plan, ...]
    """One plan for each batch size, smallest first."""
    needs_keys: bool
    """True if at least one plan needs registered evaluation keys."""

    def plan_for(self, images: int) -> Plan:
        """The plan with the largest batch that so many images fill, or the smallest plan."""
        return next((plan for plan in reversed(self.plans) if plan.batch <= images), self.plans[0])


def checked(offer: ModelInfo) -> ServedModel:
    """Parse and check an offered model and its plans.

    Raises:
        ProtocolMismatch: a plan does not have the stated digest, or is not supported by this release.
        ParameterError: a plan's parameters are outside the security budget.
    """
    plans = [_parse(plan, offer.id) for plan in offer.plans]
    if not plans:
        raise ProtocolMismatch(
            f"The server offers no plan for {offer.id}. Ask its operator to serve the published part again."
        )
    return ServedModel(
        id=offer.id,
        name=offer.name,
        classes=offer.classes,
        policy=offer.policy,
        head_digest=offer.head_digest,
        input_bound=offer.input_bound,
        plans=tuple(sorted(plans, key=lambda plan: plan.batch)),
        needs_keys=any(plan.needs_keys for plan in offer.plans),
    )


def _parse(offer: PlanInfo, model: str) -> Plan:
    plan = Plan.from_json(offer.plan)
    if plan.digest != offer.digest or plan.batch != offer.batch:
        raise ProtocolMismatch(f"The server's plan for {model} is not the one that its digest names.")
    return plan
