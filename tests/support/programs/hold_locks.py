"""Holds the locks of the files given, which are made, until standard input ends."""

import fcntl
import os
import sys

for path in sys.argv[1:]:
    fcntl.flock(os.open(path, os.O_WRONLY | os.O_CREAT), fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()
