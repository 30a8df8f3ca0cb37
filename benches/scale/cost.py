"""cost.py [--trace DIR] COMMAND... - runs a command and prints: exit code, wall seconds, processor seconds, peak MiB.

With --trace, in place of that: exit code, how often a file *.head was opened, and megabytes read from files below DIR.
Needs strace for it, which makes times meaningless.
"""
import os
import re
import subprocess
import sys
import tempfile
import time


def run(command):
    begun = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0)])
    _, status, used = os.wait4(pid, 0)
    wall = time.monotonic() - begun
    code = os.waitstatus_to_exitcode(status)
    print(f"{code} {wall:.2f} {used.ru_utime + used.ru_stime:.2f} {used.ru_maxrss / 1024:.0f}")


def trace(directory, command):
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        calls = "trace=open,openat,openat2,read,pread64,readv,preadv"
        traced = ["strace", "-f", "-qq", "-y", "-s", "0", "-e", calls, "-o", log.name, *command]
        code = subprocess.run(traced, stdout=subprocess.DEVNULL, check=False).returncode
        heads, read, waiting = 0, 0, {}
        of_file = re.compile(r"^p?readv?(?:64)?\(\d+<([^>]*)>")
        for line in log:
            thread, call = line.split(None, 1)
            if call.startswith("open"):
                # The name of the file that was opened; a call that another thread interrupted shows it here as well.
                heads += bool(re.search(r'\.head"', call)) and "ENOENT" not in call
            elif found := of_file.match(call):
                waiting[thread] = found[1]
            if "read" in call and (count := re.search(r"= (\d+)$", call)):
                if waiting.pop(thread, "").startswith(directory):
                    read += int(count[1])
        print(f"{code} {heads} {read / 1e6:.1f}")


if sys.argv[1] == "--trace":
    trace(os.path.realpath(sys.argv[2]) + "/", sys.argv[3:])
else:
    run(sys.argv[1:])
