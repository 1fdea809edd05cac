"""Image files at the client: found, and decoded in processes that hold no key."""
