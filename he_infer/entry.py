"""Entry points of the command lines, which import nothing: Ctrl-C while packages are loaded leaves no traceback."""

import sys
from importlib import import_module


def main() -> None:
    """Run `he-infer`."""
    run_command_line("he_infer.cli")


def run_command_line(module: str) -> None:
    """Import a command line's module and run its `main`; an interrupt ends the process with code 130."""
    sys.unraisablehook = _repeat_lost_signal
    try:
        import_module(module).main()
    except KeyboardInterrupt:
        sys.exit(130)


def _repeat_lost_signal(lost: "sys.UnraisableHookArgs") -> None:
    """Send a signal again whose exception Python discarded.

    Python discards whatever is raised within a destructor or a weak reference's callback. The import of each module
    calls one, so that a Ctrl-C at such a moment would show a traceback and end nothing.
    """
    if lost.exc_type is KeyboardInterrupt:
        code: object = 130
    else:  # SIGTERM and SIGHUP end a command by SystemExit
        code = lost.exc_value.code if isinstance(lost.exc_value, SystemExit) else None
    if not isinstance(code, int) or code <= 128:
        sys.__unraisablehook__(lost)
        return
    import signal
    import threading

    # From another thread, a moment later: raised here it would be discarded once more.
    main_thread = threading.main_thread().ident
    again = threading.Timer(0.05, lambda: signal.pthread_kill(main_thread or 0, code - 128))
    again.daemon = True
    again.start()
