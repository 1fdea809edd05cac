"""Entry point of the experiments' command line; see `he_infer.entry`."""

from he_infer.entry import run_command_line


def main() -> None:
    """Run `he-experiments`."""
    run_command_line("experiments.cli")
