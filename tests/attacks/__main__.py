"""`make attacks`: runs one hostile client of each kind beside an honest one, and measures the honest one's answers.

Example: `python -m tests.attacks --seconds 10 --json attacks.json`
"""

from pathlib import Path
from typing import Any


def main() -> None:
    """Measure every kind; exits 1 where the honest client loses more than a tenth of its answers."""
    import argparse
    import tempfile

    from tests.attacks.beside import measure
    from tests.attacks.hostile import KINDS
    from tests.campaign import show, write
    from tests.he_infer.server.support.kit import full_size_bundle, write_bundle

    parser = argparse.ArgumentParser(
        prog="python -m tests.attacks", description="Hostile clients beside an honest one."
    )
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="alone, beside the attack, beside the control: each"
    )
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the server")
    parser.add_argument("--only", nargs="*", default=[], help="kinds, such as: flood")
    parser.add_argument("--toy", action="store_true", help="a small head instead of 512 -> 64 -> x^2 -> 10")
    parser.add_argument("--json", type=Path, help="write the figures here")
    chosen = parser.parse_args()
    figures: dict[str, Any] = {}
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
                write(chosen.json, figures)
    if bad := [kind for kind, row in figures.items() if row["share_lost"] > 0.1]:
        raise SystemExit(f"An honest client lost more than a tenth of its answers beside: {', '.join(bad)}.")


if __name__ == "__main__":
    main()
