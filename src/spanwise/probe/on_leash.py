"""Runs a command on a host for as long as whoever asked for it is there. Sent through ssh as the first line of standard input.

The second line is ``{"command", "environment"}``. When standard input ends (the other side ended the command, was killed, or lost the
connection: sshd closes it in each case, and tells the command itself nothing), the command's whole session is killed.
"""

import json
import os
import signal
import subprocess
import sys
import threading


def main():
    """Start it, watch, pass its exit status on."""
    order = json.loads(sys.stdin.buffer.readline())
    process = subprocess.Popen(
        order["command"],
        env=dict(os.environ, **order["environment"]),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )

    def watch():
        while sys.stdin.buffer.read(1):
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass

    threading.Thread(target=watch, daemon=True).start()
    code = process.wait()
    # Not sys.exit: the thread that reads standard input would keep the interpreter from ending.
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
