"""Registers a key file's evaluation keys, and tests keys, key set and head together with canary questions."""

import numpy as np

from he_infer.ckks.packing import pack
from he_infer.client.connection.session import Session
from he_infer.client.keys.key_file import KeyFile
from he_infer.client.model import ClientModel
from he_infer.client.served_model import ServedModel
from he_infer.client.verify.canaries import system_generator, wrong_rows
from he_infer.client.verify.scores import open_scores
from he_infer.errors import WrongAnswer


def register_keys(session: Session, keys: KeyFile) -> int:
    """Register the key set for those plans for which the server lacks it or cannot use it; returns the bytes sent.

    A usable key set stays: the server refuses other bytes under the same id.

    Raises:
        RequestRefused, ServerError: see `Session.register` and `Session.forget_keys`.
    """
    present = {entry.plan: entry.usable for entry in session.key_sets() if entry.key_set == keys.key_set}
    total = 0
    for plan in keys.plans:
        if not plan.needs_keys or present.get(plan.digest):
            continue
        if plan.digest in present:
            session.forget_keys(plan.digest, keys.key_set)
        parts = keys.secret_key(plan).evaluation_keys(plan)
        total += session.register(plan, keys.key_set, parts).bytes
    return total


def prove_keys(session: Session, keys: KeyFile, model: ClientModel, served: ServedModel) -> int:
    """Send canary questions through each plan with the registered keys; returns the number of questions.

    Raises:
        WrongAnswer: an answer is wrong.
        NotAuthentic, ServerError: see `Session.classify`.
    """
    asked = 0
    for plan in served.plans:
        if all(plan.digest != own.digest for own in keys.plans):
            continue
        count = min(plan.batch, len(model.questions))
        chosen = system_generator().choice(len(model.questions), count, replace=False)
        secret_key = keys.secret_key(plan)
        sent = secret_key.encrypt(pack(plan, model.questions[chosen]), plan.input_scale)
        answer = session.classify(served, plan, keys.key_set, sent)
        scores = open_scores(secret_key, plan, answer.parts, count)
        asked += count
        if wrong_rows(plan, scores, np.asarray(model.answers[chosen])):
            raise WrongAnswer(
                f"The keys are registered, but a test question for {plan.batch} images a request was answered wrongly. "
                f"Delete them with 'he-infer keys forget {keys.key_set}', then register again with 'he-infer keys "
                "register'; if it fails again, the server does not compute the "
                "published model: ask its operator.",
                [answer.receipt.to_json()],
            )
    return asked
