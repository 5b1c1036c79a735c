"""The command line in a process forked from one that has imported torch already.

Starting Python anew takes seconds, most of them for that import.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from multiprocessing.reduction import DupFd

import pcodec.cli

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pcodec.codec"])


class Stream:
    """A file on its way to another process."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return DupFd(self.file.fileno()).detach, ()


def main(arguments, folder, streams):
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", 1)  # noqa: SIM115
    sys.argv = ["pcodec", *arguments]
    pcodec.cli.main()


def run(arguments, folder):
    """What `pcodec ARGUMENTS` does in a folder, with nothing at its standard input."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        process = CONTEXT.Process(target=main, args=(arguments, folder, [*map(Stream, files)]))
        process.start()
        process.join(120)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(arguments)
        _, stdout, stderr = (os.pread(file.fileno(), 1 << 30, 0) for file in files)
        return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)
