"""Records of runs: one JSON line each, with everything that is needed to repeat the run."""
