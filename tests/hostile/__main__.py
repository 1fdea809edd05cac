"""`make hostile`: the long campaign, with its counts on the screen and in a JSON file.

Example: `python -m tests.hostile --messages 20000 --objects 10000 --json hostile.json`
"""


def main() -> None:
    """Run both parts; exits with 1 where a condition did not hold."""
    # Imported here: worker processes import this module anew, and must not get the client's code with it.
    import argparse
    import tempfile
    from pathlib import Path

    from tests.campaign import progress, show, write
    from tests.he_infer.server.support.kit import write_bundle
    from tests.hostile.campaign import over_http
    from tests.hostile.parser import attack

    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description="Hostile messages, by the thousand.")
    parser.add_argument("--messages", type=int, default=20_000, help="messages over HTTP")
    parser.add_argument("--objects", type=int, default=10_000, help="objects straight at the worker's parser")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--json", type=Path, help="write the counts here")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="he-infer-hostile-") as name:
        bundle = write_bundle(Path(name) / "toy.hebundle")
        with progress("over HTTP", chosen.messages) as advance:
            messages = over_http(bundle, Path(name) / "data", chosen.messages, chosen.seed, progress=advance)
        show("Hostile messages over HTTP", messages.to_json())
        with progress("at the parser", chosen.objects) as advance:
            objects = attack(bundle, chosen.objects, chosen.seed + 1, progress=advance)
        show("Hostile objects at the worker's parser", objects.to_json())
    if chosen.json:
        write(chosen.json, {"http": messages.to_json(), "parser": objects.to_json()})
    for line in (*messages.undocumented[:20], *objects.undocumented[:20]):
        print(line)
    messages.check()
    objects.check()


if __name__ == "__main__":
    main()
