"""Records of runs: one JSON line each, with what is needed to run it again."""
