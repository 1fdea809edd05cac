"""Entry points of the command lines, which import nothing: Ctrl-C while packages are loaded leaves no traceback."""

import sys
from importlib import import_module


def main() -> None:
    """Run `he-infer`."""
    run_command_line("he_infer.cli")


def run_command_line(module: str) -> None:
    """Import a command line's module and run its `main`; an interrupt ends the process with code 130."""
    try:
        import_module(module).main()
    except KeyboardInterrupt:
        sys.exit(130)
