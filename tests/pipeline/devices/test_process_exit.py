"""`fast_exit` ends a process quickly, with all output written."""

import os
import subprocess
import sys

LEAVE = """
import atexit, sys, threading, time
from pipeline.devices.process_exit import fast_exit

class Slow:
    def __del__(self):
        print("freed")

slow = Slow()
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
print("not flushed", end="")
sys.stdout.write(", ")
fast_exit(7)
"""


def test_fast_exit_waits_for_threads_flushes_and_runs_exit_handlers_but_frees_nothing():
    done = subprocess.run([sys.executable, "-c", LEAVE], capture_output=True, text=True)
    assert done.returncode == 7
    assert done.stdout == "not flushed, thread\nat exit\n"


def test_fast_exit_keeps_its_exit_code_if_the_output_is_closed():
    script = (
        "import sys; from pipeline.devices.process_exit import fast_exit;"
        "print(sys.stdin.read()); fast_exit(7)"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    buffered = os.environ | {"PYTHONUNBUFFERED": ""}
    with subprocess.Popen([sys.executable, "-c", script], env=buffered, **pipes) as child:
        child.stdout.close()
        child.stdin.close()
        assert child.wait(30) == 7, child.stderr.read()
