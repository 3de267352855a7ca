"""``python -m spanwise``: the command line, where the script is not on the path."""

from __future__ import annotations

from spanwise.cli.main import run

if __name__ == "__main__":
    run()
