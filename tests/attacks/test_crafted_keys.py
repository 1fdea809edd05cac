"""Keys that are not the plan's keys are refused by their form, before SEAL reads them or memory is allocated."""

from collections.abc import Callable

import numpy as np
import pytest
import zstandard

from he_infer.ckks.engines.seal import shapes_for
from he_infer.ckks.seal_format import CiphertextShape, KeySwitchShape, state_size, wrap
from he_infer.errors import FormatError, HeInferError, KeyProblem
from tests.attacks.crypto_kit import EXPANDED, Target, at_data_level, ciphertext, key_shapes, key_switches, target

WIDTHS = (20, 6, 3)


@pytest.fixture(scope="module")
def mlp() -> Target:
    return target(WIDTHS)


def galois(mlp: Target) -> KeySwitchShape:
    shape = key_shapes(mlp.plan)["galois"]
    assert isinstance(shape, KeySwitchShape)
    return shape


def relin(mlp: Target) -> KeySwitchShape:
    shape = key_shapes(mlp.plan)["relin"]
    assert isinstance(shape, KeySwitchShape)
    return shape


def public(mlp: Target) -> CiphertextShape:
    shape = key_shapes(mlp.plan)["public"]
    assert isinstance(shape, CiphertextShape)
    return shape


def make_galois(
    mlp: Target, *, digits: int = 0, places: int = 0, taken: set[int] | None = None, key: bytes = b""
) -> bytes:
    shape = galois(mlp)
    return wrap(
        key_switches(
            shape,
            key or ciphertext(shape.ciphertext),
            places=places or shape.places,
            taken=set(shape.taken) if taken is None else taken,
            digits=shape.digits + digits,
        )
    )


def make_relin(mlp: Target, *, digits: int = 0, places: int = 1, key: bytes = b"") -> bytes:
    shape = relin(mlp)
    body = key or ciphertext(shape.ciphertext)
    taken = set(range(places))
    return wrap(key_switches(shape, body, places=places, taken=taken, digits=shape.digits + digits))


CASES: dict[str, Callable[[Target], dict[str, bytes]]] = {
    "galois one digit short": lambda t: {"galois": make_galois(t, digits=-1)},
    "galois one digit more": lambda t: {"galois": make_galois(t, digits=1)},
    "galois without digits": lambda t: {"galois": make_galois(t, digits=-galois(t).digits)},
    "galois of more places": lambda t: {"galois": make_galois(t, places=galois(t).places + 4)},
    "galois of one place": lambda t: {"galois": make_galois(t, places=1)},
    "galois of 2^63 places": lambda t: {"galois": make_galois(t, places=1 << 63)},
    "galois lacks an element": lambda t: {"galois": make_galois(t, taken=set(galois(t).taken[1:]))},
    "galois has one element more": lambda t: {"galois": make_galois(t, taken={*galois(t).taken, 7})},
    "galois has another element": lambda t: {"galois": make_galois(t, taken={*galois(t).taken[1:], 7})},
    "galois written out": lambda t: {"galois": make_galois(t, key=ciphertext(galois(t).ciphertext, form=EXPANDED))},
    "galois of zeros written out": lambda t: {
        "galois": make_galois(t, key=ciphertext(galois(t).ciphertext, form=EXPANDED, fill=0))
    },
    "galois at the data's level": lambda t: {
        "galois": make_galois(t, key=ciphertext(at_data_level(galois(t).ciphertext)))
    },
    "relin without keys": lambda t: {"relin": wrap(key_switches(relin(t), b"", places=0, taken=set(), digits=0))},
    "relin one digit short": lambda t: {"relin": make_relin(t, digits=-1)},
    "relin of forty keys": lambda t: {"relin": make_relin(t, places=40)},
    "relin at the data's level": lambda t: {"relin": make_relin(t, key=ciphertext(at_data_level(relin(t).ciphertext)))},
    "relin written out": lambda t: {"relin": make_relin(t, key=ciphertext(relin(t).ciphertext, form=EXPANDED))},
    "public at the data's level": lambda t: {"public": wrap(ciphertext(at_data_level(public(t))))},
    "public of three polynomials": lambda t: {"public": wrap(ciphertext(public(t), polynomials=3))},
    "public of one polynomial": lambda t: {"public": wrap(ciphertext(public(t), polynomials=1))},
    "public not transformed": lambda t: {"public": wrap(ciphertext(public(t), transformed=0))},
    "public of 2^64 - 1": lambda t: {"public": wrap(ciphertext(public(t), fill=(1 << 64) - 1))},
    "public of a scale that is no number": lambda t: {"public": wrap(ciphertext(public(t), scale=float("nan")))},
    "public of another scale": lambda t: {"public": wrap(ciphertext(public(t), scale=2.0**40))},
    "galois is the relinearisation key": lambda t: {"galois": t.honest["relin"]},
    "relin is the Galois keys": lambda t: {"relin": t.honest["galois"]},
    "public is a request": lambda t: {"public": t.ask(np.zeros((1, t.plan.width)))[0][0]},
    "something follows": lambda t: {"public": t.honest["public"] + b"\0"},
    "cut off": lambda t: {"relin": t.honest["relin"][:-1]},
    "empty": lambda t: {"relin": b""},
    "a part too many": lambda t: {"other": t.honest["relin"]},
}


@pytest.mark.parametrize("case", CASES)
def test_crafted_keys_are_refused(mlp: Target, case: str) -> None:
    parts = {**mlp.honest, **CASES[case](mlp)}
    with pytest.raises((FormatError, KeyProblem)):
        mlp.evaluator.load_keys(parts)


@pytest.mark.parametrize("part", ["galois", "relin", "public"])
def test_missing_part_is_refused(mlp: Target, part: str) -> None:
    with pytest.raises(KeyProblem, match=part):
        mlp.evaluator.load_keys({name: data for name, data in mlp.honest.items() if name != part})


def test_compression_bomb_is_refused_before_it_is_inflated(mlp: Target) -> None:
    size = shapes_for(mlp.plan).sizes["galois"]
    for stated in (size - 1, size + 1, 1 << 33):
        frame = zstandard.ZstdCompressor(level=1, write_content_size=True).compress(bytes(min(stated, 1 << 27)))
        bomb = wrap(frame)[:5] + b"\2" + wrap(frame)[6:]
        with pytest.raises(FormatError, match="size that the plan gives it"):
            mlp.evaluator.load_keys({**mlp.honest, "galois": bomb})


def test_frame_with_wrong_stated_size_is_refused(mlp: Target) -> None:
    size = shapes_for(mlp.plan).sizes["public"]
    # A frame of the right stated size whose blocks hold less.
    frame = bytearray(zstandard.ZstdCompressor(write_content_size=True).compress(bytes(size)))
    cut = bytes(frame[: len(frame) // 2])
    with pytest.raises(FormatError):
        mlp.evaluator.load_keys({**mlp.honest, "public": wrap(cut)[:5] + b"\2" + wrap(cut)[6:]})


def test_secret_key_is_refused_by_name(mlp: Target) -> None:
    raw = mlp.secret.to_bytes()
    with pytest.raises(HeInferError, match="secret key was sent"):
        mlp.evaluator.load_keys({**mlp.honest, "public": raw[5 + raw[4] :]})


def test_honest_keys_have_exactly_the_stated_sizes(mlp: Target) -> None:
    assert {name: state_size(data) for name, data in mlp.honest.items()} == shapes_for(mlp.plan).sizes
    mlp.evaluator.load_keys(mlp.honest)
