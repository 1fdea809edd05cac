"""`make faults`: every fault in its long form, with counts on the screen and in a JSON file.

Example: `python -m tests.faults --kills 200 --json faults.json`
"""

from collections.abc import Callable


def main() -> None:
    """Run all scenarios; exits 1 where anything was lost, wrong or undocumented."""
    import argparse
    import tempfile
    from pathlib import Path

    from tests.campaign import progress, show, write
    from tests.faults import clients, clock, crash, database, disk
    from tests.faults.kit import may_mount
    from tests.faults.outcome import Outcome
    from tests.he_infer.server.support.kit import write_bundle

    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Faults under a running server.")
    parser.add_argument("--kills", type=int, default=200, help="times that the server is killed; the rest follows it")
    parser.add_argument("--only", nargs="*", default=[], help="names of scenarios, such as: disk")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which the server is killed")
    parser.add_argument("--json", type=Path, help="write the counts here")
    chosen = parser.parse_args()
    kills = chosen.kills
    scenarios: dict[str, tuple[int, Callable[..., Outcome], str]] = {
        "workers killed": (kills, crash.kill_workers, ""),
        "disk full": (kills, disk.full, "" if may_mount() else "only root may mount file systems"),
        "disk read-only": (kills // 2, disk.read_only, "" if may_mount() else "only root may mount file systems"),
        "database lost": (max(3, kills // 10), database.lost, _missing(database.tools)),
        "clock jumps": (max(4, kills // 8), clock.jump, "" if clock.library() else "libfaketime is not installed"),
        "clients slow, gone, silent, deaf": (max(3, kills // 5), clients.trouble, ""),
        "server killed": (kills, crash.kill_the_server, ""),
    }
    figures, failed = {}, []
    with tempfile.TemporaryDirectory(prefix="he-infer-faults-") as name:
        bundle = write_bundle(Path(name) / "toy.hebundle")
        for number, (title, (count, scenario, hindrance)) in enumerate(scenarios.items()):
            if chosen.only and not any(word in title for word in chosen.only):
                continue
            if hindrance:
                print(f"{title}: not run, since {hindrance}")
                figures[title] = {"not run": hindrance}
                continue
            folder = Path(name) / f"scenario-{number}"
            if scenario in (crash.kill_workers, crash.kill_the_server):
                with progress(title, count) as advance:
                    outcome = scenario(bundle, folder, count, seed=chosen.seed, progress=advance)
            else:
                outcome = scenario(bundle, folder, count)
            figures[title] = outcome.to_json()
            show(title[0].upper() + title[1:], figures[title])
            try:
                outcome.check()
            except AssertionError as error:
                failed.append(title)
                print(f"{title} FAILED: {error}\n" + "\n".join(outcome.odd[:10]))
            if chosen.json:
                write(chosen.json, figures)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def _missing(find: Callable[[], object]) -> str:
    try:
        find()
    except FileNotFoundError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
