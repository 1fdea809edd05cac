"""The steps of Algorithm 1, one by one."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cipher.algorithm.confusion import scramble, unscramble
from cipher.algorithm.diffusion import alter, restore
from cipher.algorithm.engine import Engine, by_name
from cipher.algorithm.engine.vectorised import logistic, rotate, tent
from cipher.algorithm.features import BASE_LAYERS, MOST_LAYERS, Features
from cipher.algorithm.geometry import TILE, Geometry, grid_of
from cipher.algorithm.key_schedule import Stage, update_key
from cipher.algorithm.keystream import KeyStream
from cipher.algorithm.network import NEURONS, SHEET_WORDS, Network, create_network, effective_parameters
from cipher.algorithm.partition import select_partitions
from cipher.algorithm.remainder import RemainderKeys, absorb, release, unabsorb, unrelease
from tests.cipher.recipes import engines

KEY = bytes(range(32))


@pytest.fixture(params=engines(), ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param


def stream(engine: Engine, seed: int = 0, layers: int = BASE_LAYERS) -> KeyStream:
    return KeyStream(create_network(seed.to_bytes(32, "big"), layers), engine)


class TestGeometry:
    @pytest.mark.parametrize(
        ("shape", "itemsize", "expected"),
        [
            ((512, 300), 1, Geometry(512, 300, 0, 8)),
            ((512, 300), 2, Geometry(512, 300, 0, 16)),
            ((512, 300), 4, Geometry(512, 600, 0, 16)),
            ((100, 40, 3), 1, Geometry(100, 120, 0, 8)),
            ((3, 100, 40), 1, Geometry(300, 40, 0, 8)),
            ((7, 100, 40, 3), 2, Geometry(700, 120, 0, 16)),
            ((1, 4096), 1, Geometry(64, 64, 0, 8)),
            ((31, 40), 1, Geometry(35, 35, 15, 8)),
            ((1, 1), 2, Geometry(1, 1, 0, 16)),
            ((1009,), 1, Geometry(32, 31, 17, 8)),
        ],
    )
    def test_images_are_stacked_and_narrow_ones_folded(
        self, shape: tuple[int, ...], itemsize: int, expected: Geometry
    ) -> None:
        assert grid_of(shape, itemsize) == expected

    @pytest.mark.parametrize("count", range(1, 3000, 7))
    def test_a_fold_keeps_every_word_and_is_nearly_square(self, count: int) -> None:
        grid = grid_of((count,), 1)
        assert grid.words == count
        assert 0 <= grid.remainder < grid.columns
        assert 0 <= grid.rows - grid.columns <= 2


class TestFeatures:
    def test_flat_images_get_the_most_layers_and_rich_ones_the_least(self) -> None:
        flat = Features.extract(np.bincount([7] * 100, minlength=256))
        rich = Features.extract(np.full(256, 40))
        assert (flat.effective_levels, flat.hidden_layers()) == (1, MOST_LAYERS)
        assert (rich.effective_levels, rich.hidden_layers()) == (256, BASE_LAYERS)

    def test_every_number_of_layers_occurs(self) -> None:
        layers = {Features(levels).hidden_layers() for levels in range(1, 257)}
        assert layers == set(range(BASE_LAYERS, MOST_LAYERS + 1))

    def test_the_histogram_counts_folded_bytes(self, engine: Engine) -> None:
        words = np.random.default_rng(1).integers(0, 65536, 10_007).astype(np.uint16)
        np.testing.assert_array_equal(engine.histogram(words), np.bincount(words >> 8 ^ words & 255, minlength=256))
        narrow = words.astype(np.uint8)
        np.testing.assert_array_equal(engine.histogram(narrow), np.bincount(narrow, minlength=256))


class TestKeySchedule:
    def test_every_stage_image_and_shape_has_its_own_subkey(self) -> None:
        grids = [Geometry(64, 64, 0, 8), Geometry(64, 64, 0, 16), Geometry(64, 63, 64, 8)]
        salts = [bytes(16), bytes(15) + b"\1"]
        subkeys = {update_key(KEY, salt, stage, grid) for stage in Stage for grid in grids for salt in salts}
        assert len(subkeys) == len(Stage) * len(grids) * len(salts)


class TestNetwork:
    def test_layers_are_invertible_and_balanced(self) -> None:
        for seed in range(20):
            network = create_network(seed.to_bytes(32, "big"), MOST_LAYERS)
            assert network.layers == MOST_LAYERS
            for weights in network.weights:
                assert effective_parameters(weights)
                determinant = _determinant([[int(value) for value in row] for row in weights])
                assert determinant % 2 == 1, "invertible mod 2, hence mod 2^64"

    def test_singular_and_unbalanced_weights_are_ineffective(self) -> None:
        rng = np.random.default_rng(1)
        fair = rng.integers(0, 2**64, (NEURONS, NEURONS), dtype=np.uint64)
        fair |= np.eye(NEURONS, dtype=np.uint64)
        fair &= ~np.tri(NEURONS, k=-1, dtype=np.uint64)
        assert effective_parameters(fair)
        singular = fair.copy()
        singular[1] = fair[0]
        assert not effective_parameters(singular)
        assert not effective_parameters(np.eye(NEURONS, dtype=np.uint64))

    def test_more_layers_begin_with_the_same_ones(self) -> None:
        few, many = create_network(KEY, BASE_LAYERS), create_network(KEY, MOST_LAYERS)
        np.testing.assert_array_equal(few.weights, many.weights[:BASE_LAYERS])

    @pytest.mark.parametrize("name", ["logistic", "rotate", "tent"])
    def test_activations_are_the_formulas_and_bijective(self, name: str) -> None:
        function, formula = {
            "logistic": (logistic, _logistic),
            "rotate": (rotate, _rotate),
            "tent": (tent, _tent),
        }[name]
        rng = np.random.default_rng(2)
        words = np.unique(np.concatenate([rng.integers(0, 2**64, 100_000, dtype=np.uint64), np.arange(3, dtype="u8")]))
        out = np.empty_like(words)
        function(words.copy(), out)
        assert np.unique(out).size == words.size
        assert [formula(int(word)) for word in words[:100]] == out[:100].tolist()

    def test_stream_is_the_network_evaluated_in_exact_integers(self, engine: Engine) -> None:
        network = create_network(KEY, 9)
        sheets = engine.stream(network, 5, 2).reshape(2, NEURONS, -1)
        for sheet, place in ((0, 0), (0, 255), (1, 17)):
            expected = _evaluate(network, (5 + sheet) * 256 + place)
            assert sheets[sheet, :, place].tolist() == expected

    def test_stream_is_the_same_in_any_portions(self, engine: Engine) -> None:
        network = create_network(KEY, 8)
        whole = engine.stream(network, 0, 12)
        np.testing.assert_array_equal(engine.stream(network, 7, 5), whole[7 * SHEET_WORDS :])
        reader, portions = KeyStream(network, engine), []
        for size in (1, 7, 8192, 3, 20_000, 70_000):
            portions.append(reader.read_bytes(size).copy())
        np.testing.assert_array_equal(np.concatenate(portions), whole.view(np.uint8)[: sum(map(len, portions))])

    @pytest.mark.parametrize(("layers", "good"), [(1, False), (2, False), (3, True), (BASE_LAYERS, True)])
    def test_avalanche_is_seen_to_fail_below_three_layers(self, layers: int, good: bool) -> None:
        """One flipped input bit flips each output bit half the time; z over 256 x 256 pairs of bits."""
        rng = np.random.default_rng(layers)
        numpy_engine = by_name("numpy")
        flips = np.zeros((4, 64))
        rounds = 12
        for _ in range(rounds):
            network = create_network(rng.bytes(32), layers)
            base = numpy_engine.stream(network, 0, 1).reshape(NEURONS, -1)
            for word in range(NEURONS):
                for bit in range(0, 64, 5):
                    seeds = network.seeds.copy()
                    seeds[word] ^= np.uint64(1 << bit)
                    other = numpy_engine.stream(Network(network.weights, network.biases, seeds), 0, 1)
                    difference = (other.reshape(NEURONS, -1) ^ base)[:, :, None]
                    flips += (difference >> np.arange(64, dtype=np.uint64) & np.uint64(1)).sum(axis=1)
        trials = rounds * NEURONS * 13 * 256
        worst = float(np.abs((flips - trials / 2) / math.sqrt(trials / 4)).max())
        assert (worst < 5) is good


class TestConfusion:
    @pytest.mark.parametrize("shape", [(32, 32), (64, 96), (33, 65), (95, 31), (5, 7), (1, 1)])
    def test_partitions_cover_every_word_once(self, engine: Engine, shape: tuple[int, int]) -> None:
        grid = Geometry(*shape, 0, 16)
        numbered = np.arange(grid.block, dtype=np.uint16)
        vector = scramble(numbered, grid, stream(engine), engine)
        np.testing.assert_array_equal(np.sort(vector), numbered)
        np.testing.assert_array_equal(unscramble(vector, grid, stream(engine), engine), numbered)

    def test_a_partition_stays_together_and_the_order_is_keyed(self, engine: Engine) -> None:
        grid = Geometry(128, 160, 0, 16)
        numbered = np.arange(grid.block, dtype=np.uint16)
        orders = set()
        for seed in range(5):
            vector = scramble(numbered, grid, stream(engine, seed), engine)
            tiles = numbered.reshape(128, 160) // 160 // TILE * 5 + numbered.reshape(128, 160) % 160 // TILE
            taken = tiles.reshape(-1)[vector].reshape(-1, TILE * TILE)
            assert (taken == taken[:, :1]).all()
            orders.add(tuple(taken[:, 0].tolist()))
        assert len(orders) == 5

    def test_tiles_get_different_scramblings(self) -> None:
        partitions = select_partitions(Geometry(512, 512, 0, 8), stream(by_name("numpy")))
        assert len({tuple(tile[4:6]) for tile in partitions.tiles.tolist()}) > 250
        assert (np.sort(partitions.pool, axis=1) == np.arange(TILE * TILE)).all()


class TestDiffusion:
    @pytest.mark.parametrize("full_first", [True, False])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (40, 37), (37, 300)])
    @pytest.mark.parametrize("word", [np.uint8, np.uint16])
    def test_a_stage_is_undone(self, engine: Engine, shape: tuple[int, int], word: type, full_first: bool) -> None:
        grid = np.random.default_rng(3).integers(0, np.iinfo(word).max, shape, dtype=word, endpoint=True)
        altered = grid.copy()
        alter(altered, stream(engine), engine, full_first=full_first)
        restore(altered, stream(engine), engine, full_first=full_first)
        np.testing.assert_array_equal(altered, grid)

    def test_a_sweep_is_the_formula(self, engine: Engine) -> None:
        grid = np.random.default_rng(4).integers(0, 65536, (6, 5), dtype=np.uint16)
        altered = grid.copy()
        alter(altered, stream(engine), engine, full_first=True)
        np.testing.assert_array_equal(altered, _alter_in_exact_integers(grid, stream(engine), full_first=True))

    def test_one_stage_alone_leaves_pixels_that_do_not_change(self) -> None:
        """Why there are two stages of two sweeps: a change in the last row has only a cone above it to go to."""
        numpy_engine = by_name("numpy")
        one, other = np.zeros((64, 64), np.uint16), np.zeros((64, 64), np.uint16)
        other[-1, -1] = 1
        for grid in (one, other):
            alter(grid, stream(numpy_engine), numpy_engine, full_first=True)
        assert np.count_nonzero(one != other) < 0.9 * one.size

    def test_transposing(self, engine: Engine) -> None:
        grid = np.arange(300 * 131, dtype=np.uint16).reshape(300, 131)
        turned = engine.transpose(grid)
        np.testing.assert_array_equal(turned, grid.T)
        assert turned.flags.c_contiguous


class TestRemainder:
    @pytest.mark.parametrize("word", [np.uint8, np.uint16])
    def test_absorbing_and_releasing_are_undone(self, word: type) -> None:
        rng = np.random.default_rng(5)
        block = rng.integers(0, np.iinfo(word).max, 100, dtype=word)
        rest = rng.integers(0, np.iinfo(word).max, 7, dtype=word)
        keys = RemainderKeys.draw(stream(by_name("numpy")), 7, 8 * block.itemsize)
        changed = block.copy()
        absorb(changed, rest, keys)
        assert (changed[:7] != block[:7]).any()
        saved = release(changed, rest, keys)
        np.testing.assert_array_equal(unrelease(changed, saved, keys), rest)
        unabsorb(changed, rest, keys)
        np.testing.assert_array_equal(changed, block)


def _determinant(rows: list[list[int]]) -> int:
    if len(rows) == 1:
        return rows[0][0]
    return sum(
        (-1) ** column * rows[0][column] * _determinant([row[:column] + row[column + 1 :] for row in rows[1:]])
        for column in range(len(rows))
    )


MASK = 2**64 - 1


def _logistic(x: int) -> int:
    return x * (2 * x + 1) & MASK


def _rotate(x: int) -> int:
    return (x << 29 | x >> 35) & MASK


def _tent(x: int) -> int:
    return 2 * x if x < 2**63 else 2 * (2**64 - 1 - x) + 1


def _evaluate(network: Network, number: int) -> list[int]:
    seeds = [int(seed) for seed in network.seeds]
    entry = [(seeds[0] + number) & MASK, *seeds[1:]]
    state = entry
    for weights, biases in zip(network.weights.tolist(), network.biases.tolist(), strict=True):
        sums = [sum(w * x for w, x in zip(row, state, strict=True)) + b for row, b in zip(weights, biases, strict=True)]
        state = [_tent(_rotate(_logistic(total & MASK))) for total in sums]
    return [(x + e) & MASK for x, e in zip(state, entry, strict=True)]


def _alter_in_exact_integers(grid: NDArray[np.uint16], keys: KeyStream, *, full_first: bool) -> NDArray[np.int64]:
    """A stage in Python's integers, from the documentation alone; for grids of 5 columns of 16 bits."""
    rows, columns = grid.shape

    def row(count: int) -> list[int]:
        padded = -(-count // 4) * 4
        return keys.read(padded, 16)[:count].tolist()

    def sweep() -> tuple[int, int, int, list[int], list[int]]:
        a, b, s = keys.read_wide(3).tolist()
        return a & 0xFFFF | 1, b & 0xFFFF | 1, 1 + (s >> 32) % (columns - 1), row(columns), row(columns)

    onward, back = sweep(), sweep()
    line = row(rows)
    full = keys.read(rows * columns, 16).reshape(rows, columns).tolist()
    x = grid.tolist()
    for (a, b, s, d, start), order, wide in (
        (onward, range(rows), full_first),
        (back, range(rows - 1, -1, -1), not full_first),
    ):
        before = start
        for step, r in enumerate(order):
            for j in range(columns):
                v = (a * before[j] + b * before[(j + s) % columns] + d[j]) & 0xFFFF
                v = v * (2 * v + 1) & 0xFFFF
                key = full[step][j] if wide else line[step]
                x[r][j] = ((x[r][j] ^ key) + (v ^ v >> 8)) & 0xFFFF
            before = x[r]
    return np.array(x)
