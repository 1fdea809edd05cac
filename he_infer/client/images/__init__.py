"""Search for image files, and decoding in processes that hold no key."""
