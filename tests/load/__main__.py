"""`make load`: the load curve, fairness and rolling restarts: ratios on the screen, figures in JSON, curves as PNG.

Example: `python -m tests.load --seconds 10 --repeats 3 --json load.json --png load.png`
"""


def main() -> None:
    """Run all three."""
    import argparse
    import tempfile
    from pathlib import Path

    from he_infer.client.connection.session import Session
    from he_infer.local_server import LocalServer
    from tests.campaign import progress, show, write
    from tests.he_infer.server.support.kit import full_size_bundle
    from tests.load import campaign, curves

    parser = argparse.ArgumentParser(prog="python -m tests.load", description="Load, fairness, restarts.")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0])
    parser.add_argument("--restarts", type=int, default=6)
    parser.add_argument("--json", type=Path, default=Path("load.json"))
    parser.add_argument("--png", type=Path, default=Path("load.png"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="he-infer-load-") as name:
        folder = Path(name)
        bundle = full_size_bundle(folder / "full.hebundle")
        with LocalServer([bundle], folder / "data", options=campaign.OPTIONS) as server:
            flood_token = campaign.second_token(server)
            with Session(server.url, server.token) as one, Session(server.url, flood_token) as two:
                steady = campaign.tenant(server, one, server.token, folder)
                flood = campaign.tenant(server, two, flood_token, folder)
                with progress("load", len(chosen.factors) * chosen.repeats) as advance:
                    measured = campaign.curve(server, steady, chosen.factors, chosen.seconds, chosen.repeats, advance)
                rows = campaign.ratios(measured)
                for factor, figures in rows.items():
                    show(f"Offered {factor} of the capacity: median, least, largest", figures)
                best = sorted(measured["capacity per second"])[len(measured["capacity per second"]) // 2]
                fair = campaign.fairness(steady, flood, best, chosen.seconds, chosen.repeats)
                show("A steady tenant beside a flood: median, least, largest", fair)
        rolled = campaign.rolling(bundle, folder / "rolling", chosen.restarts)
        show("Rolling restarts", rolled)
    write(chosen.json, {"curve": measured, "ratios": rows, "fairness": fair, "rolling": rolled})
    curves.draw(measured, chosen.png)
    print(f"Figures in {chosen.json}, curves in {chosen.png}.")


if __name__ == "__main__":
    main()
