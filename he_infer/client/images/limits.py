"""Limits that a decoding process puts on itself."""


def bound_memory(most: int) -> None:
    """Bound the process's address space, where the system can; a reader that needs more gets a MemoryError."""
    try:
        import resource
    except ImportError:  # Windows has no such limit; the time limit is left
        return
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
