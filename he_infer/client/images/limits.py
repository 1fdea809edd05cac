"""Resource limits that a decoding process sets for itself."""


def bound_memory(most: int) -> None:
    """Limit the process's address space, if the system can. A reader that needs more gets a MemoryError."""
    try:
        import resource
    except ImportError:  # Windows has no such limit; only the time limit applies
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
