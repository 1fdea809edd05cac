"""`python -m he_infer.server`: the server process, as `he-infer serve` starts it."""

from he_infer.server.main import main

if __name__ == "__main__":
    main()
