"""The server process: `python -m he_infer.server`, which `he-infer serve` runs."""

from he_infer.server.stop_signals import StopSignals

if __name__ == "__main__":
    stop = StopSignals()
    stop.install()
    from he_infer.server.main import main

    main(stop)
