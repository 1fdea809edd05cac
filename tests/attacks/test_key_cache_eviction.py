"""A client with many key sets, which asks with each in turn: it drives its own out of the workers, no others."""

from he_infer.ckks.engines.seal import shapes_for
from tests.attacks.kit import Scene
from tests.he_infer.server.support.bench import Bench


def test_many_key_sets_of_one_client_leave_those_of_others_in_memory(scene: Scene) -> None:
    size = shapes_for(scene.honest.plan).memory
    bench = Bench(scene.bundle, key_cache=3 * size)
    try:
        honest = ["a set of one", "a set of another"]
        for client in honest:
            assert bench.right(client, tenant=client)
        for number in [*range(4), *range(4)]:
            assert bench.right(f"set {number}", tenant="hostile")
        assert bench.supplied == 2 + 8  # the hostile client's own sets are read each time
        for client in honest:
            assert bench.right(client, tenant=client)
        assert bench.supplied == 2 + 8
    finally:
        bench.pool.drain(10)
