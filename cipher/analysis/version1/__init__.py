"""The first version of the inner cipher, which was broken: a negative control for the suite and its attacks."""
