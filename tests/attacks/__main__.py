"""`make attacks`: counts the attacks by letter, and measures an honest client beside a hostile one of each kind.

Examples: `python -m tests.attacks --json attacks.json`, `python -m tests.attacks --no-letters --only flood`
"""

from pathlib import Path
from typing import Any


def main() -> None:
    """Try every attack and measure every kind of hostile client.

    Exits 1 where an attack succeeds, or the honest client loses more than a tenth of its answers.
    """
    import argparse
    import tempfile

    parser = argparse.ArgumentParser(
        prog="python -m tests.attacks", description="Hostile clients beside an honest one."
    )
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="alone, beside the attack, beside the control: each"
    )
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the server")
    parser.add_argument("--only", nargs="*", default=[], help="kinds, such as: flood")
    parser.add_argument("--toy", action="store_true", help="a small head instead of 512 -> 64 -> x^2 -> 10")
    parser.add_argument("--no-letters", action="store_true", help="measure the hostile clients alone")
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args()
    figures: dict[str, Any] = {}
    # First: pytest rewrites the asserts of its plugins, and refuses those that were imported before it.
    tries = {} if chosen.no_letters else try_all()
    from tests.attacks.beside import measure
    from tests.attacks.hostile import KINDS
    from tests.campaign import show, write
    from tests.he_infer.server.support.kit import full_size_bundle, write_bundle

    if chosen.json:
        write(chosen.json, {"attacks": tries, "beside": figures})
    with tempfile.TemporaryDirectory(prefix="he-infer-attacks-") as name:
        folder = Path(name)
        bundle = write_bundle(folder / "b.hebundle") if chosen.toy else full_size_bundle(folder / "b.hebundle")
        for kind in KINDS:
            if chosen.only and kind not in chosen.only:
                continue
            rounds = max(1, round(chosen.seconds / 2))
            place = folder / kind.replace(" ", "-")
            figures[kind] = measure(kind, bundle, place, rounds, chosen.seconds / rounds, chosen.workers)
            show(kind, figures[kind])
            if chosen.json:
                write(chosen.json, {"attacks": tries, "beside": figures})
    if succeeded := [name for name, row in tries.items() if row["succeeded"]]:
        raise SystemExit(f"Attacks succeeded: {', '.join(succeeded)}.")
    if bad := [kind for kind, row in figures.items() if row["share_lost"] > 0.1]:
        raise SystemExit(f"An honest client lost more than a tenth of its answers beside: {', '.join(bad)}.")


def try_all() -> dict[str, dict[str, int]]:
    """Run the tests of this folder, and count tries and successes by letter and attack.

    Raises:
        SystemExit: an honest case was refused, so that the refusal of an attack means nothing.
    """
    import pytest

    from tests.attacks.letters import Counts
    from tests.campaign import show

    counts = Counts()
    pytest.main(["-q", "-p", "no:cacheprovider", str(Path(__file__).parent)], plugins=[counts])
    if counts.honest_refused:
        raise SystemExit(f"Honest cases were refused: {', '.join(counts.honest_refused)}.")
    rows = {f"{letter}: {name}": row for (letter, name), row in counts.rows.items()}
    for letter in "ABCDE":
        own = {
            name: f"tried {row['tried']}, succeeded {row['succeeded']}"
            for name, row in rows.items()
            if name[0] == letter
        }
        show(f"attacks {letter}", own)
    return rows


if __name__ == "__main__":
    main()
