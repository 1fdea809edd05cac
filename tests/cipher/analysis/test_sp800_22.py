"""The fifteen tests give the P-values that SP 800-22 rev. 1a prints in its worked examples and its appendix B."""

import math

import numpy as np
import pytest
from scipy import special

from cipher.analysis.sp800_22 import battery
from cipher.analysis.sp800_22.bits import Bits, codes, from_bytes, from_text
from cipher.analysis.sp800_22.complexity import PROBABILITIES, complexity_counts, linear_complexity, shortest_registers
from cipher.analysis.sp800_22.excursions import (
    STATES,
    VARIANT_STATES,
    Walk,
    random_excursions,
    random_excursions_variant,
    visit_probabilities,
)
from cipher.analysis.sp800_22.frequency import block_frequency, cumulative_sums, monobit
from cipher.analysis.sp800_22.rank import gf2_ranks, matrix_rank, rank_probability
from cipher.analysis.sp800_22.runs import longest_run, runs
from cipher.analysis.sp800_22.serial import approximate_entropy, serial
from cipher.analysis.sp800_22.spectral import spectral
from cipher.analysis.sp800_22.template import (
    OVERLAPPING_PROBABILITIES,
    aperiodic_templates,
    non_overlapping,
    overlapping_counts,
)
from cipher.analysis.sp800_22.universal import block_length, universal

# The first hundred bits of pi, and the 128 bits of 2.4.8, as the document prints them.
PI_100 = from_text(
    "11001001000011111101101010100010001000010110100011 00001000110100110001001100011001100010100010111000"
)
LONGEST_128 = from_text(
    "11001100000101010110110001001100111000000000001001 00110101010001000100111101011010000000110101111100"
    "1100111001101101100010110010"
)


def _digits_of_e(count: int) -> Bits:
    """The leading `count` bits of e = 10.1011..., by binary splitting of the sum of 1/k!."""

    def split(low: int, high: int) -> tuple[int, int]:
        if high - low == 1:
            return 1, high
        middle = (low + high) // 2
        p, q = split(low, middle)
        r, s = split(middle, high)
        return p * s + r, q * s

    terms = 2
    while math.lgamma(terms + 1) < (count + 64) * math.log(2):
        terms = terms * 11 // 10 + 1
    numerator, denominator = split(0, terms)
    value = ((numerator + denominator) << (count + 32)) // denominator
    length = value.bit_length()
    return from_bytes((value << (-length % 8)).to_bytes((length + 7) // 8, "big"), count)


@pytest.fixture(scope="module")
def e() -> Bits:
    """The sequence of appendix B; the document says that it holds 500,029 ones."""
    bits = _digits_of_e(1_000_000)
    assert int(bits.sum()) == 500_029
    return bits


@pytest.fixture(scope="module")
def e_walk(e: Bits) -> Walk:
    return Walk.of(e)


def test_monobit_gives_the_p_values_of_the_examples() -> None:
    assert monobit(from_text("1011010101")) == pytest.approx(0.527089, abs=1e-6)
    assert monobit(PI_100) == pytest.approx(0.109599, abs=1e-6)


def test_block_frequency_gives_the_p_values_of_the_examples() -> None:
    assert block_frequency(from_text("0110011010"), 3) == pytest.approx(0.801252, abs=1e-6)
    assert block_frequency(PI_100, 10) == pytest.approx(0.706438, abs=1e-6)


def test_cumulative_sums_give_the_p_values_of_the_examples() -> None:
    assert cumulative_sums(from_text("1011010111")) == pytest.approx(0.4116588, abs=1e-6)
    assert cumulative_sums(PI_100) == pytest.approx(0.219194, abs=1e-6)
    assert cumulative_sums(PI_100, backward=True) == pytest.approx(0.114866, abs=1e-6)


def test_runs_gives_the_p_values_of_the_examples() -> None:
    assert runs(from_text("1001101011")) == pytest.approx(0.147232, abs=1e-6)
    assert runs(PI_100) == pytest.approx(0.500798, abs=1e-6)


def test_runs_does_not_apply_to_an_unbalanced_sequence() -> None:
    assert runs(np.ones(100, dtype=np.uint8)) == 0.0


def test_longest_run_gives_the_p_value_of_the_example() -> None:
    # The document prints 0.180609; its own probabilities of four digits give 0.1805977.
    assert longest_run(LONGEST_128) == pytest.approx(0.180609, abs=2e-5)


def test_longest_run_refuses_a_short_sequence() -> None:
    with pytest.raises(ValueError, match="128 bits"):
        longest_run(PI_100)


def test_matrix_rank_gives_the_p_values_of_the_examples(e: Bits) -> None:
    assert matrix_rank(e[:100_000]) == pytest.approx(0.532069, abs=1e-6)
    # 2.5.4 has two 3 x 3 matrices of ranks 2 and 3, and takes the probabilities of 32 x 32 ones for its 0.741948.
    matrices = from_text("010110010010101011")
    assert gf2_ranks(matrices.reshape(2, 3, 3)).tolist() == [2, 3]
    chi_square = sum((f - 2 * p) ** 2 / (2 * p) for f, p in ((1, 0.2888), (1, 0.5776), (0, 0.1336)))
    assert math.exp(-chi_square / 2) == pytest.approx(0.741948, abs=1e-6)
    exact = [rank_probability(3, 3, r) for r in (3, 2)]
    exact.append(1 - sum(exact))
    chi_square = sum((f - 2 * p) ** 2 / (2 * p) for f, p in zip((1, 1, 0), exact, strict=True))
    assert matrix_rank(matrices, 3, 3) == pytest.approx(math.exp(-chi_square / 2), abs=1e-12)


def test_gf2_rank_equals_real_rank_where_both_agree() -> None:
    triangular = np.triu(np.ones((1, 32, 32), dtype=np.uint8))
    repeated = np.tile(np.eye(32, dtype=np.uint8)[:16], (2, 1))[np.newaxis]
    # Over GF(2) the three rows add up to nothing; over the reals they have full rank.
    dependent = np.array([[[1, 1, 0], [0, 1, 1], [1, 0, 1]]], dtype=np.uint8)
    assert gf2_ranks(triangular)[0] == 32
    assert gf2_ranks(repeated)[0] == 16
    assert gf2_ranks(dependent)[0] == 2


def test_rank_probabilities_sum_to_one() -> None:
    assert sum(rank_probability(3, 3, r) for r in range(4)) == pytest.approx(1.0)
    assert rank_probability(32, 32, 32) == pytest.approx(0.2888, abs=1e-4)


def test_spectral_follows_the_corrected_definition() -> None:
    # The document's two short examples predate its correction of the test: its definition counts 48 peaks of the
    # second under the threshold, not the 46 that it prints. Appendix B, below, has the corrected figure.
    count, expected = 48, 47.5
    distance = (count - expected) / math.sqrt(100 * 0.95 * 0.05 / 4)
    assert spectral(PI_100) == pytest.approx(math.erfc(distance / math.sqrt(2)), abs=1e-12)


def test_non_overlapping_gives_the_p_value_of_the_example() -> None:
    p_values = non_overlapping(from_text("10100100101110010110"), (0b001,), 3, blocks=2)
    assert p_values[0] == pytest.approx(0.344154, abs=1e-6)


def test_there_are_148_aperiodic_templates_of_nine_bits() -> None:
    assert len(aperiodic_templates(9)) == 148
    assert aperiodic_templates(2) == (0b01, 0b10)


def test_non_overlapping_refuses_a_periodic_template() -> None:
    with pytest.raises(ValueError, match="aperiodic"):
        non_overlapping(PI_100, (0b101,), 3)


def test_overlapping_gives_the_printed_counts_and_p_value(e: Bits) -> None:
    counts = overlapping_counts(e, 9, 1032, 6)
    assert counts.tolist() == [329, 164, 150, 111, 78, 136]
    # Appendix B's 0.110434 comes from the probabilities before their correction, 3.8's formula with eta = 1.
    eta = (1032 - 9 + 1) / 2**9 / 2
    old = [math.exp(-eta)]
    for u in range(1, 5):
        terms = (math.comb(u - 1, k - 1) * eta**k / math.factorial(k) for k in range(1, u + 1))
        old.append(math.exp(-eta) / 2**u * sum(terms))
    old.append(1 - sum(old))
    expected = 968 * np.array(old)
    p_value = special.gammaincc(2.5, float(((counts - expected) ** 2 / expected).sum()) / 2)
    assert p_value == pytest.approx(0.110434, abs=1e-6)


def test_overlapping_probabilities_are_those_of_a_random_block() -> None:
    # Exact, by the chain of (current run of ones, matches so far) over 1032 bits.
    state = np.zeros((10, 6))
    state[0, 0] = 1.0
    for _ in range(1032):
        step = np.zeros_like(state)
        step[0] = state.sum(axis=0) / 2
        step[1:9] = state[:8] / 2
        matched = (state[8] + state[9]) / 2
        step[9, 1:] = matched[:5]
        step[9, 5] += matched[5]
        state = step
    assert state.sum(axis=0) == pytest.approx(OVERLAPPING_PROBABILITIES, abs=2e-6)


def test_universal_gives_the_statistic_of_the_example() -> None:
    # 2.9.4: the statistic is 1.1949875 for L = 2, Q = 4; the P-value follows 2.9.4's formula, not its numbers.
    correction = 0.7 - 0.8 / 2 + (4 + 32 / 2) * 6 ** (-3 / 2) / 15
    sigma = correction * math.sqrt(1.338 / 6)
    expected = math.erfc(abs(1.1949875 - 1.5374383) / (math.sqrt(2) * sigma))
    assert universal(from_text("01011010011101010111"), 2, 4) == pytest.approx(expected, abs=1e-6)


def test_universal_takes_the_block_length_of_the_document() -> None:
    assert [block_length(n) for n in (387_840, 904_960, 2_068_480)] == [6, 7, 8]
    with pytest.raises(ValueError, match="387840"):
        block_length(387_839)


def test_known_sequence_has_its_linear_complexity() -> None:
    # 2.10.4: the shortest register of 1101011110001 has length 4.
    assert shortest_registers(from_text("1101011110001")[np.newaxis]).tolist() == [4]
    lone_one = np.zeros((1, 200), dtype=np.uint8)
    lone_one[0, -1] = 1
    assert shortest_registers(np.vstack([lone_one, np.zeros_like(lone_one)])).tolist() == [200, 0]


def test_linear_complexity_of_a_long_register_is_its_length() -> None:
    state, taps, out = 0b1011001, (0, 6), []
    for _ in range(400):
        out.append(state & 1)
        feedback = sum(state >> t for t in taps) & 1
        state = (state >> 1) | (feedback << 6)
    assert shortest_registers(np.array([out], dtype=np.uint8)).tolist() == [7]


def test_linear_complexity_gives_the_printed_p_value(e: Bits) -> None:
    # The printed figures use 0.01047 for 1/96, and 0.020833 for 1/48; without them the fourth digit differs.
    printed = np.array((0.01047, *PROBABILITIES[1:-1], 0.020833))
    for block, p_value in ((500, 0.826335), (1000, 0.845406)):
        counts = complexity_counts(e, block)
        expected = counts.sum() * printed
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        assert special.gammaincc(3, chi_square / 2) == pytest.approx(p_value, abs=1e-6)
        assert linear_complexity(e, block) == pytest.approx(p_value, abs=1e-3)


def test_serial_gives_the_p_values_of_the_examples(e: Bits) -> None:
    assert serial(from_text("0011011101"), 3) == pytest.approx((0.808792, 0.670320), abs=1e-6)
    assert serial(e, 2) == pytest.approx((0.843764, 0.561915), abs=1e-6)


def test_approximate_entropy_gives_the_p_values_of_the_examples() -> None:
    assert approximate_entropy(from_text("0100110101"), 3) == pytest.approx(0.261961, abs=1e-6)
    assert approximate_entropy(PI_100, 2) == pytest.approx(0.235301, abs=1e-6)


def test_excursions_give_the_counts_of_the_short_example() -> None:
    # 2.14.4: 0110110101 walks -1 0 1 0 1 2 1 2 1 2 and is closed by a zero: three cycles.
    walk = Walk.of(from_text("0110110101"))
    assert walk.positions.tolist() == [-1, 0, 1, 0, 1, 2, 1, 2, 1, 2, 0]
    assert walk.cycles == 3
    # The figure for x = 1 in 2.14.4 is 0.502488; for x = 1 in 2.15.4 it is 0.683091.
    assert random_excursions(walk)[STATES.index(1)] == pytest.approx(0.502488, abs=2e-4)
    assert random_excursions_variant(walk)[VARIANT_STATES.index(1)] == pytest.approx(0.683091, abs=1e-6)


def test_excursions_give_the_printed_p_values(e: Bits, e_walk: Walk) -> None:
    assert e_walk.cycles == 1490
    assert e_walk.enough(e.size)
    # States -4 .. -1 of 2.14.8; its figures for 1 .. 4 disagree with appendix B, which has 0.786868 for x = +1.
    assert random_excursions(e_walk)[:5] == pytest.approx((0.573306, 0.197996, 0.164011, 0.007779, 0.786868), abs=1e-6)
    # 2.15.8, states -9 .. -1 and 1.
    variant = (0.858946, 0.794755, 0.576249, 0.493417, 0.633873, 0.917283, 0.934708, 0.816012, 0.826009, 0.137861)
    assert random_excursions_variant(e_walk)[:10] == pytest.approx(variant, abs=1e-6)


def test_visit_probabilities_are_those_of_the_document() -> None:
    assert visit_probabilities(1) == pytest.approx([0.5, 0.25, 0.125, 0.0625, 0.03125, 0.03125])
    assert visit_probabilities(-4) == pytest.approx([0.875, 0.0156, 0.0137, 0.0120, 0.0105, 0.0733], abs=5e-5)


def test_first_million_bits_of_e_give_p_values_of_appendix_b(e: Bits) -> None:
    """The document's reference results for the first million bits of e."""
    p_values = battery.run(e)
    first = {name: values[0] for name, values in p_values.items()}
    printed = {
        "frequency": 0.953749,
        "block frequency": 0.211072,
        "cumulative sums": 0.669887,
        "runs": 0.561917,
        "longest run of ones": 0.718945,
        "matrix rank": 0.306156,
        "spectral": 0.847187,
        "non-overlapping templates": 0.078790,
        "universal": 0.282568,
        "approximate entropy": 0.700073,
        "serial": 0.766182,
    }
    assert {name: first[name] for name in printed} == pytest.approx(printed, abs=1e-6)
    assert p_values["cumulative sums"][1] == pytest.approx(0.724266, abs=1e-6)
    assert tuple(p_values) == battery.NAMES
    assert len(battery.NAMES) == 15


def test_battery_refuses_a_short_sequence() -> None:
    with pytest.raises(ValueError, match="1000000 bits"):
        battery.run(PI_100)


def test_judge_passes_uniform_p_values_and_flags_a_weak_part() -> None:
    generator = np.random.default_rng(5)
    uniform = generator.uniform(size=(100, 8))
    good = battery.judge("x", uniform)
    assert good is not None
    assert min(good.p_proportion, good.p_uniformity) > 1e-3
    uniform[:, 3] **= 3
    bad = battery.judge("x", uniform)
    assert bad is not None
    assert max(bad.p_proportion, bad.p_uniformity) < 1e-6


def test_judge_leaves_out_sequences_that_the_test_does_not_apply_to() -> None:
    p_values = np.full((4, 2), 0.5)
    p_values[1:3] = np.nan
    verdict = battery.judge("x", p_values)
    assert verdict is not None
    assert verdict.sequences == 2
    assert battery.judge("x", np.full((2, 2), np.nan)) is None


def test_windows_become_codes_and_other_digits_are_refused() -> None:
    assert codes(from_text("1101"), 2).tolist() == [3, 2, 1]
    assert codes(from_text("1101"), 2, cyclic=True).tolist() == [3, 2, 1, 3]
    with pytest.raises(ValueError, match="0 and 1"):
        from_text("10a")
