"""The steps of Algorithm 1, one by one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cipher.algorithm.confusion import scramble, unscramble
from cipher.algorithm.diffusion import DiffusionKeys, alter, restore
from cipher.algorithm.engine import Engine, by_name
from cipher.algorithm.engine.vectorised import influence, logistic, rotate, tent
from cipher.algorithm.features import LEAST_LAYERS, LEAST_NODES, MOST_LAYERS, MOST_NODES, Features
from cipher.algorithm.geometry import Geometry, grid_of
from cipher.algorithm.key_schedule import Stage, extract_key, update_key
from cipher.algorithm.keystream import read_stream
from cipher.algorithm.network import create_network, has_influence
from cipher.algorithm.partition import divide
from cipher.algorithm.weights import LEAST_DISTANCE, SHEET_INPUTS, Network
from cipher.errors import UnsupportedImage
from tests.cipher import by_the_document
from tests.cipher.recipes import engines

KEY, SALT = bytes(range(32)), bytes(range(16))
IMAGE_KEY = extract_key(KEY, SALT)


@pytest.fixture(params=engines(), ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param


def stream_of(network: Network, sheets: int, engine: Engine, first: int = 0) -> NDArray[np.uint64]:
    words = np.zeros(sheets * network.sheet_bytes // 8, np.uint64)
    engine.add_stream(network, first, words)
    return words


def effective(weights: NDArray[np.uint64], engine: Engine) -> NDArray[np.uint64]:
    """The effective ones of some layers' weights (C, N, N)."""
    layers = np.concatenate([weights, np.zeros((*weights.shape[:2], 1), np.uint64)], axis=2)
    chosen = np.empty_like(layers)
    return chosen[: engine.choose(layers, chosen, 0), :, :-1]


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
            ((1, 8), 2, Geometry(4, 2, 0, 16)),
            ((1009,), 1, Geometry(32, 31, 17, 8)),
        ],
    )
    def test_images_are_stacked_and_narrow_ones_folded(
        self, shape: tuple[int, ...], itemsize: int, expected: Geometry
    ) -> None:
        assert grid_of(shape, itemsize) == expected

    @pytest.mark.parametrize("count", range(16, 3000, 7))
    def test_a_fold_keeps_every_word_and_is_nearly_square(self, count: int) -> None:
        grid = grid_of((count,), 1)
        assert grid.words == count
        assert 0 <= grid.remainder < grid.columns
        assert 0 <= grid.rows - grid.columns <= 2

    @pytest.mark.parametrize(("shape", "itemsize"), [((1, 1), 1), ((15,), 1), ((1, 7), 2), ((3,), 4), ((1,), 8)])
    def test_image_under_16_bytes_is_refused(self, shape: tuple[int, ...], itemsize: int) -> None:
        with pytest.raises(UnsupportedImage, match="16 bytes or more"):
            grid_of(shape, itemsize)


class TestFeatures:
    def test_every_number_of_layers_nodes_and_size_of_tiles_is_reached(self) -> None:
        layers, nodes, tiles = set(), set(), set()
        rng = np.random.default_rng(1)
        for levels in (1, 2, 4, 8, 16, 64, 256):
            for smooth in (1, 2, 4, 8, 16, 64):
                half = np.repeat(np.repeat(rng.integers(0, levels, (64, 64)), smooth, 0), smooth, 1)[:64, :64]
                half[1::2] += np.arange(64) // smooth
                features = Features.extract(half.astype(np.uint16), by_name("numpy"))
                layers.add(features.layers())
                nodes.add(features.nodes())
                tiles.add(features.tile(16))
        assert layers == set(range(LEAST_LAYERS, MOST_LAYERS + 1))
        assert nodes == set(range(LEAST_NODES, MOST_NODES + 1))
        assert len(tiles) > 4

    @settings(deadline=None, max_examples=40)
    @given(st.integers(1, 140), st.integers(1, 140), st.integers(1, 65536), st.integers(0, 1000))
    def test_both_engines_and_the_document_agree(self, rows: int, columns: int, levels: int, seed: int) -> None:
        half = np.random.default_rng(seed).integers(0, levels, (rows, columns)).astype(np.uint16)
        expected = by_the_document.Features(half.tolist())
        for engine in engines():
            features = Features.extract(half, engine)
            assert features.label() == expected.label()
            assert (features.layers(), features.nodes()) == (expected.layers, expected.nodes)
            assert features.tile(16) == (expected.height, expected.row_bytes // 2)

    def test_values_are_stretched_so_that_an_offset_changes_nothing(self) -> None:
        half = np.random.default_rng(1).integers(0, 200, (64, 64)).astype(np.uint16)
        numpy_engine = by_name("numpy")
        assert Features.extract(half + np.uint16(4000), numpy_engine) == Features.extract(half, numpy_engine)


class TestKeySchedule:
    def test_every_stage_image_shape_and_feature_has_its_own_subkey(self) -> None:
        grids = [Geometry(64, 64, 0, 8), Geometry(64, 64, 0, 16), Geometry(64, 63, 64, 8)]
        salts, features = [bytes(16), bytes(15) + b"\1"], [b"", b"x"]
        subkeys = [
            update_key(extract_key(KEY, salt), stage, grid, count=2, features=feature)
            for stage in Stage for grid in grids for salt in salts for feature in features
        ]  # fmt: skip
        assert len({subkey for both in subkeys for subkey in both}) == 2 * len(Stage) * 3 * 2 * 2


class TestNetwork:
    def test_layers_are_invertible_and_weights_far_apart(self, engine: Engine) -> None:
        for seed in range(8):
            network = create_network(seed.to_bytes(32, "big"), 5, 4 + seed % 3, engine)
            assert network.weights.shape == (5, 4 + seed % 3, 4 + seed % 3)
            assert len(effective(network.weights, engine)) == 5
            for weights in network.weights.tolist():
                assert by_the_document.effective(weights)

    def test_ineffective_weights_are_seen(self, engine: Engine) -> None:
        fair = create_network(KEY, 4, 4, engine).weights[:1]
        singular, near, twin = fair.copy(), fair.copy(), fair.copy()
        singular[0, 1] = singular[0, 0] ^ np.uint64(0xFFFF_FFFF_0000)
        twin[0, :, :] = fair[0, 0, 0] & ~np.uint64(1) | np.eye(4, dtype=np.uint64)
        near[0, 2, 1] = near[0, 0, 0] ^ np.uint64((1 << LEAST_DISTANCE - 1) - 2)
        found = effective(np.concatenate([singular, twin, fair, near, fair + np.uint64(2)]), engine)
        # Of the twin all weights share their high 63 bits.
        np.testing.assert_array_equal(found, np.concatenate([fair, fair + np.uint64(2)]))

    def test_layers_are_taken_until_there_are_enough(self, engine: Engine) -> None:
        drawn = create_network(KEY, 6, 4, engine)
        layers = np.concatenate([drawn.weights, drawn.biases[:, :, None]], axis=2)
        chosen = np.zeros((5, 4, 5), np.uint64)
        assert engine.choose(layers[:2], chosen, 1) == 3
        assert engine.choose(layers[2:], chosen, 3) == 5
        np.testing.assert_array_equal(chosen, np.concatenate([np.zeros((1, 4, 5), np.uint64), layers[:4]]))

    @pytest.mark.parametrize("where", ["weight", "node"])
    def test_parameter_without_influence_is_seen(self, where: str, engine: Engine) -> None:
        network = create_network(KEY, 4, 4, engine)
        assert has_influence(network, engine)
        weights = network.weights.copy()
        if where == "node":
            weights[2, :, 1] = 0  # nobody listens to node 1 of layer 1
        else:
            weights[3, :, 2] = 1 << 63  # of node 2's value only the lowest bit goes on
        assert not has_influence(Network(weights, network.biases, network.seeds), engine)

    def test_engines_measure_the_same_influence(self) -> None:
        for layers, nodes in ((4, 4), (5, 5), (7, 6)):
            network = create_network(KEY, layers, nodes, by_name("numpy"))
            measured = influence(network)
            least = (measured[:-1].min(), measured[-1, :, :-1].min())
            assert all(engine.least_influence(network) == least for engine in engines())
            assert abs(measured[:-1].mean() / (128 * nodes) - 0.5) < 0.02

    def test_analysis_draws_again_what_is_not_effective(self, monkeypatch: pytest.MonkeyPatch) -> None:
        numpy_engine = by_name("numpy")
        first = create_network(KEY, 4, 4, numpy_engine)
        verdicts = iter([False, True])
        monkeypatch.setattr("cipher.algorithm.network.has_influence", lambda network, engine: next(verdicts))
        assert (create_network(KEY, 4, 4, numpy_engine).seeds != first.seeds).all()

    @pytest.mark.parametrize("name", ["logistic", "rotate", "tent"])
    def test_activations_are_bijective(self, name: str) -> None:
        function = {"logistic": logistic, "rotate": rotate, "tent": tent}[name]
        rng = np.random.default_rng(2)
        words = np.unique(np.concatenate([rng.integers(0, 2**64, 100_000, dtype=np.uint64), np.arange(3, dtype="u8")]))
        out = np.empty_like(words)
        function(words.copy(), out)
        assert np.unique(out).size == words.size

    @pytest.mark.parametrize(("layers", "nodes"), [(4, 4), (5, 5), (4, 6)])
    def test_stream_is_the_network_in_exact_integers(self, layers: int, nodes: int, engine: Engine) -> None:
        network = create_network(KEY, layers, nodes, engine)
        expected = by_the_document.Network(KEY, layers, nodes)
        assert expected.seeds == network.seeds.tolist()
        stream = expected.stream()
        assert bytes(next(stream) for _ in range(5000)) == stream_of(network, 3, engine).astype("<u8").tobytes()[:5000]

    def test_stream_is_the_same_in_any_portions(self, engine: Engine) -> None:
        network = create_network(KEY, 4, 5, engine)
        whole = stream_of(network, 12, engine)
        np.testing.assert_array_equal(stream_of(network, 5, engine, 7), whole[7 * 5 * SHEET_INPUTS :])
        part = np.zeros(3001, np.uint64)
        engine.add_stream(network, 0, part)
        np.testing.assert_array_equal(part, whole[:3001])
        np.testing.assert_array_equal(read_stream(network, 3001, engine), whole[:3001])

    @pytest.mark.parametrize(("layers", "good"), [(1, False), (2, False), (3, True), (LEAST_LAYERS, True)])
    def test_avalanche_is_seen_to_fail_below_three_layers(self, layers: int, good: bool) -> None:
        """One flipped input bit flips each output bit half the time; z over 256 x 256 pairs of bits."""
        rng = np.random.default_rng(layers)
        numpy_engine = by_name("numpy")
        flips = np.zeros((4, 64))
        rounds = 12
        for _ in range(rounds):
            drawn = create_network(rng.bytes(32), LEAST_LAYERS, 4, numpy_engine)
            network = Network(drawn.weights[:layers], drawn.biases[:layers], drawn.seeds)
            base = stream_of(network, 1, numpy_engine).reshape(4, -1)
            for word in range(4):
                for bit in range(0, 64, 5):
                    seeds = network.seeds.copy()
                    seeds[word] ^= np.uint64(1 << bit)
                    other = stream_of(Network(network.weights, network.biases, seeds), 1, numpy_engine)
                    difference = (other.reshape(4, -1) ^ base)[:, :, None]
                    flips += (difference >> np.arange(64, dtype=np.uint64) & np.uint64(1)).sum(axis=1)
        trials = rounds * 4 * 13 * 256
        worst = float(np.abs((flips - trials / 2) / math.sqrt(trials / 4)).max())
        assert (worst < 5) is good


class TestConfusion:
    @pytest.mark.parametrize("shape", [(32, 32), (64, 96), (33, 65), (200, 700), (5, 7), (4, 2)])
    @pytest.mark.parametrize("word", [np.uint8, np.uint16])
    def test_confusion_is_undone(self, engine: Engine, shape: tuple[int, int], word: type) -> None:
        grid = Geometry(*shape, 0, 8 * np.dtype(word).itemsize)
        block = np.random.default_rng(3).integers(0, 200, grid.block).astype(word)
        vector, back = np.empty_like(block), np.empty_like(block)
        scramble(block, vector, grid, IMAGE_KEY, engine)
        unscramble(vector, back, grid, IMAGE_KEY, engine)
        np.testing.assert_array_equal(back, block)

    def test_words_move_within_tiles_and_bits_within_words(self, engine: Engine) -> None:
        grid = Geometry(256, 512, 0, 16)
        block = np.zeros(grid.block, np.uint16)
        block[300] = 1
        vector = np.empty_like(block)
        places, bits = set(), set()
        for seed in range(24):
            scramble(block, vector, grid, extract_key(seed.to_bytes(32, "big"), SALT), engine)
            (place,) = np.flatnonzero(vector)
            assert place < grid.block // 2, "the word stays in its half"
            places.add(int(place))
            bits.add(int(vector[place]).bit_length())
        assert len(places) > 20
        assert len(bits) > 8

    def test_division_follows_the_features_and_every_tile_has_its_own_order(self) -> None:
        numpy_engine = by_name("numpy")
        rng = np.random.default_rng(1)
        lively = Features.extract(rng.integers(0, 65536, (64, 64)).astype(np.uint16), numpy_engine)
        calm = Features.extract(np.add.outer(np.arange(64), np.arange(64)).astype(np.uint16), numpy_engine)
        assert lively.tile(16) < calm.tile(16)
        network = create_network(KEY, 4, 4, numpy_engine)
        division = divide(512, 1024, 16, lively, network, numpy_engine)
        (middle, *ragged) = division.strips
        assert sum(strip.width * strip.across for strip in division.strips) == 1024
        assert all(strip.across == 1 for strip in ragged)
        (_, rows), *_ = division.split_draws()
        draws = rows[division.bands[1] : division.bands[2]].T
        assert len({tuple(tile) for tile in draws.tolist()}) == middle.across

    def test_features_of_one_half_steer_the_other(self, engine: Engine) -> None:
        grid = Geometry(128, 256, 0, 16)
        one = np.random.default_rng(5).integers(0, 4000, grid.block).astype(np.uint16)
        other = one.copy()
        other[: grid.block // 2] = 7
        vectors = [np.empty_like(one) for _ in range(2)]
        for block, vector in zip((one, other), vectors, strict=True):
            scramble(block, vector, grid, IMAGE_KEY, engine)
        lower = [np.sort(vector[grid.block // 2 :]) for vector in vectors]
        assert (vectors[0][grid.block // 2 :] != vectors[1][grid.block // 2 :]).mean() > 0.9
        assert lower[0].size == lower[1].size


class TestDiffusion:
    @pytest.mark.parametrize("count", [16, 17, 23, 24, 25, 100, 9000])
    def test_diffusion_is_undone(self, engine: Engine, count: int) -> None:
        keys = DiffusionKeys.derive(IMAGE_KEY, Geometry(1, count, 0, 8))
        plain = np.random.default_rng(3).bytes(count)
        data = bytearray(plain)
        alter(memoryview(data), keys, engine)
        assert data != plain
        restore(memoryview(data), keys, engine)
        assert data == plain

    def test_subkeys_are_all_different(self) -> None:
        keys = DiffusionKeys.derive(IMAGE_KEY, Geometry(4, 4, 0, 8))
        assert len({keys.first_hash, keys.block, keys.streams, keys.last_hash}) == 4

    @pytest.mark.parametrize("forwards", [True, False])
    def test_any_changed_bit_changes_half_of_all_bits_either_way(self, forwards: bool) -> None:
        """The first version's decryption changed at most 64 words; this one is a strong permutation both ways."""
        numpy_engine = by_name("numpy")
        keys = DiffusionKeys.derive(IMAGE_KEY, Geometry(1, 4000, 0, 8))
        step = alter if forwards else restore
        for place in (0, 8 * 15 + 7, 8 * 16, 31_999):
            one, other = bytearray(4000), bytearray(4000)
            other[place // 8] ^= 1 << place % 8
            step(memoryview(one), keys, numpy_engine)
            step(memoryview(other), keys, numpy_engine)
            changed = sum((a ^ b).bit_count() for a, b in zip(one, other, strict=True))
            assert abs(changed - 16_000) < 5 * math.sqrt(32_000) / 2

    def test_big_endian_path_gives_the_same_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        numpy_engine = by_name("numpy")
        keys = DiffusionKeys.derive(IMAGE_KEY, Geometry(1, 5000, 0, 8))
        made = []
        for order in ("little", "big"):
            monkeypatch.setattr("cipher.algorithm.diffusion.sys.byteorder", order)
            data = bytearray(5000)
            alter(memoryview(data), keys, numpy_engine)
            made.append(bytes(data))
        assert made[0] == made[1]
