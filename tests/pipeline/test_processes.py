"""How processes end: quickly, and yet with all closed and written."""

import os
import subprocess
import sys

LEAVE = """
import atexit, sys, threading, time
from pipeline.processes import leave

class Slow:
    def __del__(self):
        print("freed")

slow = Slow()
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
print("not flushed", end="")
sys.stdout.write(", ")
leave(7)
"""


def test_leaving_waits_for_threads_and_flushes_and_calls_what_is_registered_but_frees_nothing():
    done = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True)
    assert done.returncode == 7
    assert done.stdout == "not flushed, thread\nat exit\n"


def test_leaving_with_nobody_reading_has_the_same_exit_code():
    script = "import sys; from pipeline.processes import leave; print(sys.stdin.read()); leave(7)"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    with subprocess.Popen([sys.executable, "-c", script], env=buffered, **pipes) as child:
        child.stdout.close()
        child.stdin.close()
        assert child.wait(30) == 7, child.stderr.read()
