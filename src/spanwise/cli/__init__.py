"""The command line: parse, call a pure room or the journey, show."""

import gc
import os

# A command makes some hundred thousand objects, keeps nearly all of them, and ends: looking for garbage among them costs 20 ms of half a
# second.
gc.set_threshold(100_000, 20, 20)
# Pydantic would read the metadata of every installed package to look for plugins: 40 ms of the same half second. Who wants them says so.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
