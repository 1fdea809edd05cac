"""Requests that are admitted before midnight and fail after it, beside the next day's valid ones."""

import time
from pathlib import Path

import pytest

from he_infer.server.authentication import authenticate
from he_infer.server.metadata import Caller, Metadata, Question, Quotas
from he_infer.server.tokens import Scope, new_token
from he_infer.wire.refusals import Code, Refused

LIMIT = 64
MIDNIGHT = 20_000 * 86_400.0


def admit(metadata: Metadata, caller: Caller, nonce: str) -> Question:
    question = Question("m", "p", 1, nonce, time.time(), time.time() + 600, None, asked=time.time())
    metadata.questions.admit(caller, question)
    return question


def test_requests_that_fail_after_midnight_gain_no_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refund was taken from the new day's count, so a day of failures gave a second day's limit."""
    metadata, token = Metadata.sqlite(tmp_path / "m.sqlite3"), new_token()
    metadata.tokens.add("a", token, frozenset({Scope.CLASSIFY}), quotas=Quotas(daily_queries=LIMIT))
    caller = authenticate(metadata, token.text, Scope.CLASSIFY)
    monkeypatch.setattr(time, "time", lambda: MIDNIGHT - 1)
    failing = [admit(metadata, caller, f"before {number}") for number in range(LIMIT)]
    monkeypatch.setattr(time, "time", lambda: MIDNIGHT + 1)
    for number in range(LIMIT):
        admit(metadata, caller, f"after {number}")
    for question in failing:
        metadata.queries.refund(caller.client_id, "m", 1, question.asked)
    with pytest.raises(Refused) as caught:
        admit(metadata, caller, "one more")
    assert caught.value.code is Code.QUERY_LIMIT
    metadata.close()
