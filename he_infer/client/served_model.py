"""The models that a server offers, with the plans to pack features for. Parsed and checked, not taken on trust."""

from dataclasses import dataclass

from pydantic import BaseModel

from he_infer.ckks.planning.plan import Plan
from he_infer.errors import ProtocolMismatch


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


class _PlanOffer(BaseModel):
    digest: str
    batch: int
    needs_keys: bool
    plan: str

    def parsed(self, model: str) -> Plan:
        plan = Plan.from_json(self.plan)
        if plan.digest != self.digest or plan.batch != self.batch:
            raise ProtocolMismatch(f"The server's plan for {model} is not the one that its digest names.")
        return plan


class _ModelOffer(BaseModel):
    id: str
    name: str
    classes: list[str]
    policy: str
    head_digest: str
    input_bound: float
    plans: list[_PlanOffer]

    def checked(self) -> ServedModel:
        plans = [offer.parsed(self.id) for offer in self.plans]
        if not plans:
            raise ProtocolMismatch(f"The server offers no plan for {self.id}.")
        return ServedModel(
            id=self.id,
            name=self.name,
            classes=tuple(self.classes),
            policy=self.policy,
            head_digest=self.head_digest,
            input_bound=self.input_bound,
            plans=tuple(sorted(plans, key=lambda plan: plan.batch)),
            needs_keys=any(offer.needs_keys for offer in self.plans),
        )


class ModelOffers(BaseModel):
    """The server's list, as it comes."""

    models: list[_ModelOffer]

    def checked(self) -> list[ServedModel]:
        """The models, each with its plans.

        Raises:
            ProtocolMismatch: a plan does not have the digest that the server states, or is none of this release.
            ParameterError: a plan's parameters are outside the security budget.
        """
        return [offer.checked() for offer in self.models]
