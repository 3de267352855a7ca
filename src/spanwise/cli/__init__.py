"""The command line: parse, call a pure room or the journey, show."""

import gc

# A command makes some hundred thousand objects, keeps nearly all of them, and ends: looking for garbage among them costs 20 ms of half a
# second.
gc.set_threshold(100_000, 20, 20)
