"""The models that a server offers, with the plans to pack features for. Parsed and checked, not taken on trust."""

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
    """One for each batch size, smallest first."""
    needs_keys: bool
    """Must evaluation keys be registered for some plan?"""

    def plan_for(self, images: int) -> Plan:
        """The plan of the largest batch that is filled, or the smallest one."""
        return next((plan for plan in reversed(self.plans) if plan.batch <= images), self.plans[0])


def checked(offer: ModelInfo) -> ServedModel:
    """The model of an offer, with its plans parsed.

    Raises:
        ProtocolMismatch: a plan does not have the digest that the server states, or is none of this release.
        ParameterError: a plan's parameters are outside the security budget.
    """
    plans = [_parse(plan, offer.id) for plan in offer.plans]
    if not plans:
        raise ProtocolMismatch(f"The server offers no plan for {offer.id}.")
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
