"""What is said of a command whose own process came to an end without a word.

Code in C may end it, on a file that was made for that, and so may the machine, for want of memory. So a
command that reads what anybody may have made goes on in a child, and who waits for it is there to tell.
"""

import ctypes
import os
import signal
import sys

from harness.cli.shared import say
from harness.disk import looked_at_last
from harness.errors import Status

PR_SET_PDEATHSIG = 1
ASKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals by which a person or a scheduler ends a command, which say all that there is to say."""


def go_on_in_a_child() -> None:
    """Return in a child of this process; this one waits for its end, and ends as it did or says how."""
    heard, own = {*ASKED, signal.SIGCHLD}, os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)
    if (child := os.fork()) == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != own:  # which ended before it could be told
            os._exit(Status.INTERRUPTED)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    status = _wait(child, heard)
    if status < 0 and -status in ASKED:
        signal.signal(-status, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.kill(own, -status)
    if status < 0:
        say(_said(-status))
    sys.stderr.flush()
    os._exit(Status.WRONG_INPUT if status < 0 else status)  # the child did what is done at an end


def _wait(child: int, heard: set[signal.Signals]) -> int:
    """How a child ended, as `os.waitstatus_to_exitcode` has it; passes on what this process is sent."""
    while True:
        sent = signal.sigwaitinfo(heard)
        if sent.si_signo != signal.SIGCHLD:
            if sent.si_code <= 0:  # by a process: a terminal tells the child itself
                os.kill(child, sent.si_signo)
        elif (ended := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1])


def _said(number: int) -> str:
    file = looked_at_last()
    while_reading = f" as it read {file}" if file else ""
    return (
        f"the process of this command was ended by {signal.Signals(number).name}{while_reading}: free memory "
        "and try again; where that does not help, the file is damaged or was made for this: do not trust it"
    )
