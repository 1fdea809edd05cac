"""Turns of the clients at the server process."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from he_infer.server import turns
from he_infer.server.turns import Turns, end_turn
from he_infer.wire.refusals import Code, Refused


class Crowd:
    """Requests of several clients that run until they are let go; counts those that run."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.running: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.go = asyncio.Event()

    async def ask(self, client: str, *, early: bool = False) -> None:
        async with self.turns.of(client):
            self.running[client] = self.running.get(client, 0) + 1
            self.most[client] = max(self.most.get(client, 0), self.running[client])
            if early:
                end_turn()
            await self.go.wait()
            self.running[client] -= 1

    def begin(self, client: str, count: int, *, early: bool = False) -> "list[asyncio.Task[None]]":
        return [asyncio.create_task(self.ask(client, early=early)) for _ in range(count)]


def turns_of(waiting: int = 64) -> Turns:
    """Turns on a clock that stands."""
    return Turns(waiting, 60, lambda: 1000.0)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()

    asyncio.run(main())


def test_a_client_alone_has_many_turns_and_all_its_requests_are_served() -> None:
    async def scenario() -> None:
        crowd = Crowd(turns_of())
        tasks = crowd.begin("a", 40)
        await settle()
        assert crowd.running["a"] == turns.ALONE
        crowd.go.set()
        await asyncio.gather(*tasks)
        assert crowd.most["a"] == turns.ALONE

    run(scenario)


def test_an_answer_that_has_begun_waits_for_its_turn_where_a_new_request_is_refused() -> None:
    async def scenario() -> None:
        crowd = Crowd(turns_of(waiting=2))
        tasks = crowd.begin("a", turns.ALONE + 2)
        await settle()
        with pytest.raises(Refused):
            async with crowd.turns.of("a"):
                pytest.fail("the client had a turn beyond its bound")

        async def go_on() -> str:
            async with crowd.turns.of("a", begun=True):
                return "read"

        piece = asyncio.create_task(go_on())
        await settle()
        assert not piece.done()
        crowd.go.set()
        await asyncio.gather(*tasks)
        assert await piece == "read"

    run(scenario)


def test_another_client_that_comes_runs_at_once_and_the_first_is_held_to_one_turn() -> None:
    async def scenario() -> None:
        crowd = Crowd(turns_of())
        flood = crowd.begin("flood", 40)
        await settle()
        quiet = crowd.begin("quiet", 1)
        await settle()
        assert crowd.running["quiet"] == 1
        crowd.go.set()
        await asyncio.gather(*flood, *quiet)
        crowd.go.clear()
        crowd.most.clear()
        later = crowd.begin("flood", 40) + crowd.begin("quiet", 40)
        await settle()
        assert crowd.running == {"flood": turns.SHARED, "quiet": turns.SHARED}
        crowd.go.set()
        await asyncio.gather(*later)
        assert crowd.most == {"flood": turns.SHARED, "quiet": turns.SHARED}

    run(scenario)


def test_requests_without_a_client_are_no_other_client() -> None:
    async def scenario() -> None:
        crowd = Crowd(turns_of())
        tasks = crowd.begin("", 1) + crowd.begin("a", 40)
        await settle()
        assert crowd.running["a"] == turns.ALONE
        crowd.go.set()
        await asyncio.gather(*tasks)

    run(scenario)


def test_work_that_waits_for_a_worker_gives_its_turn_away() -> None:
    async def scenario() -> None:
        crowd = Crowd(turns_of())
        tasks = crowd.begin("other", 1) + crowd.begin("a", 10, early=True)
        await settle()
        await settle()
        assert crowd.running["a"] == 10
        crowd.go.set()
        await asyncio.gather(*tasks)
        assert all(lane.running == 0 for lane in crowd.turns._lanes.values())

    run(scenario)


def test_a_request_too_many_is_refused_as_busy_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def scenario() -> None:
        crowd = Crowd(turns_of(waiting=3))
        tasks = crowd.begin("a", turns.ALONE + 3)
        await settle()
        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "sleep", sleep)
            with pytest.raises(Refused) as refused:
                await crowd.ask("a")
        assert refused.value.code is Code.BUSY
        assert refused.value.retry_after == 1.0
        assert slept == [1.0]
        crowd.go.set()
        await asyncio.gather(*tasks)

    run(scenario)


def test_a_client_that_hangs_up_while_it_waits_costs_no_turn() -> None:
    async def scenario() -> None:
        crowd = Crowd(turns_of())
        tasks = crowd.begin("a", turns.ALONE)
        await settle()
        gone = crowd.begin("a", 5)
        await settle()
        for task in gone:
            task.cancel()
        await settle()
        late = crowd.begin("a", 1)
        crowd.go.set()
        await asyncio.gather(*tasks, *late)
        await asyncio.gather(*gone, return_exceptions=True)
        assert crowd.turns._lanes["a"].running == 0

    run(scenario)


def test_malformed_messages_beyond_the_allowance_delay_their_own_client_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async def scenario() -> None:
        given = turns_of()
        for _ in range(6):
            given.count_malformed("noise")
        monkeypatch.setattr(asyncio, "sleep", sleep)
        async with given.of("noise"):
            assert not slept
        for _ in range(5):
            given.count_malformed("noise")
        async with given.of("noise"):
            assert slept.pop() == 5.0
        given.count_malformed("noise", turns.MALFORMED[Code.WORKER_DIED])
        async with given.of("noise"):
            assert slept.pop() == 10.0
        async with given.of("honest"):
            assert not slept

    run(scenario)


def test_strangers_beyond_the_allowance_wait_for_the_allowed_rate() -> None:
    async def scenario() -> None:
        now = 1000.0
        given = Turns(64, 60, lambda: now)
        lane = given._enter("address x")
        for _ in range(int(given._burst / turns.STRANGER)):
            given.count_malformed("address x", turns.STRANGER)
        assert given._penalty(lane) == 0
        given.count_malformed("address x", turns.STRANGER)
        assert given._penalty(lane) == pytest.approx(turns.STRANGER)  # at a rate of one malformed message a second
        assert given._penalty(given._enter("address y")) == 0

    run(scenario)


def test_refusals_beyond_an_allowance_wait_a_second_at_most_and_recover() -> None:
    now = 1000.0
    given = Turns(64, 60, lambda: now)
    assert {given.count_busy("flood") for _ in range(turns.BUSY_A_SECOND)} == {0.0}
    waits = [given.count_busy("flood") for _ in range(2 * turns.BUSY_A_SECOND)]
    assert waits == sorted(waits)
    assert 0 < waits[0] < waits[-1] == 1.0
    assert given.count_busy("other") == 0.0
    now += 2.0
    assert given.count_busy("flood", weight=turns.BUSY_A_SECOND) == 0.0
    assert given.count_busy("flood") > 0
