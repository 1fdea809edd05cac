"""Sets the environment of servers, the folder of data sets, and one thread for each test process."""

import os
import signal
from pathlib import Path

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
if "HE_INFER_DATA" not in os.environ and _SHARED.is_dir():
    os.environ["HE_INFER_DATA"] = str(_SHARED)
# A shell without job control starts background commands with SIGINT ignored, which every child would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Two libraries with two threads each on two cores wait for each other more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Servers of tests compute with SEAL unless a test asks for the native engine: its self-test takes a second a start.
os.environ.setdefault("HE_INFER_SERVER_ENGINE", "seal")
# Tests send malformed messages and keys by the dozen; those of `tests/attacks` do so under the server's own default.
os.environ.setdefault("HE_INFER_SERVER_MALFORMED_PER_MINUTE", "1000000")
os.environ.setdefault("HE_INFER_SERVER_REGISTRATIONS_PER_HOUR", "1000000")
