"""What every test runs under: one thread, so workers do not fight for cores, and no clock in a verdict."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch loads, here and in the processes that tests start

from hypothesis import settings

settings.register_profile("trident", deadline=None, derandomize=True)
settings.load_profile("trident")
