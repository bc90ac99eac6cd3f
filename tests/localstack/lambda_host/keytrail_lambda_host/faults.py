"""Faults that tests ask for: how the next invocations of a function end, before or after the function did its work.

$KEYTRAIL_FAULTS has a file for each function that is to fail, with a line for each of its next invocations: `pass`, or an
error type and `before` or `after`. A file is gone when all of it happened.
"""

import os
import threading
from pathlib import Path

# What ends the process.
ENDED = {"Runtime.ExitError", "Sandbox.Timedout"}

taking = threading.Lock()


def take(function):
    """What the next invocation ends with, and whether after its work; None: nothing."""
    folder = os.environ.get("KEYTRAIL_FAULTS")
    if folder is None:
        return None
    path = Path(folder) / function
    with taking:
        if not path.exists():
            return None
        first, *rest = path.read_text().splitlines()
        if rest:
            path.write_text("\n".join(rest) + "\n")
        else:
            path.unlink()
    if first == "pass":
        return None
    kind, when = first.split()
    return kind, when == "after"
