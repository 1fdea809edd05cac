"""What this server offers: models, their plans, and how large a message for each of them may be."""

from collections.abc import Mapping, Sequence

from he_infer.wire.bodies import ModelInfo, ModelList, PlanInfo
from he_infer.wire.refusals import Code, Refused


class Offer:
    """The models that the workers serve.

    Args:
        models: their descriptions (`ModelHost.describe`).
        bodies: largest registration and largest request by plan, in bytes (`ModelHost.measure_bodies`).
        max_keys: largest registration that the operator allows, in bytes.
        max_request: largest request that the operator allows, in bytes.
    """

    def __init__(
        self, models: Sequence[ModelInfo], bodies: Mapping[str, tuple[int, int]], *, max_keys: int, max_request: int
    ) -> None:
        self.models = ModelList(models=tuple(models))
        self._models = {model.id: model for model in models}
        self._plans = {plan.digest: plan for model in models for plan in model.plans}
        self._bodies = bodies
        self._max_keys = max_keys
        self._max_request = max_request

    def __contains__(self, plan: str) -> bool:
        return plan in self._plans

    def find_plan(self, digest: str) -> PlanInfo:
        """Find a plan of any model.

        Raises:
            Refused: `unknown_plan`.
        """
        plan = self._plans.get(digest)
        if plan is None:
            raise Refused(Code.UNKNOWN_PLAN, "No model of this server has a plan of this digest; see GET /v1/models.")
        return plan

    def find_model(self, model_id: str) -> ModelInfo:
        """Find a model.

        Raises:
            Refused: `unknown_model`.
        """
        model = self._models.get(model_id)
        if model is None:
            raise Refused(Code.UNKNOWN_MODEL, "No such model is served here; GET /v1/models lists those that are.")
        return model

    def largest_keys(self, plan: str) -> int:
        """Largest registration for a plan, in bytes.

        Raises:
            Refused: `unknown_plan`.
        """
        return min(self._max_keys, self._bodies[self.find_plan(plan).digest][0])

    def largest_request(self, model_id: str) -> int:
        """Largest request to a model, in bytes.

        Raises:
            Refused: `unknown_model`.
        """
        plans = self.find_model(model_id).plans
        return min(self._max_request, max(self._bodies[plan.digest][1] for plan in plans))
