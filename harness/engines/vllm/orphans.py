"""Child processes that do not outlive this one, even when it is killed with SIGKILL.

vLLM's core process does not notice that its parent is gone: it would keep its memory, and the GPU's.
"""

import multiprocessing
import os
import subprocess

SCRIPT = 'read _; kill -9 "$1"'
"""Reads from this process, which never writes: it goes on when this process has ended."""


class Guard:
    """Kills child processes by name when this process ends in whatever way, until it is closed."""

    def __init__(self, prefix: str) -> None:
        """Args: prefix: of the names of the processes, as `multiprocessing` knows them."""
        self._prefix = prefix
        self._before = {child.pid for child in multiprocessing.active_children()}
        self._watchers: dict[int, subprocess.Popen[bytes]] = {}

    def children(self) -> list[multiprocessing.process.BaseProcess]:
        """The processes with that name that were started since this guard was made."""
        return [
            child
            for child in multiprocessing.active_children()
            if child.name.startswith(self._prefix) and child.pid not in self._before
        ]

    def watch(self) -> None:
        """Watch over the children that there are by now."""
        for child in self.children():
            if child.pid is not None and child.pid not in self._watchers:
                self._watchers[child.pid] = _watcher(child.pid)

    def terminate(self) -> None:
        """Ask the children to end."""
        for child in self.children():
            child.terminate()

    def close(self) -> None:
        """Let the children be. Safe to call twice."""
        for watcher in self._watchers.values():
            watcher.kill()
            watcher.communicate()
        self._watchers.clear()


def _watcher(pid: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["/bin/sh", "-c", SCRIPT, "harness-guard", str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Not to be ended by a Ctrl-C in the terminal.
        start_new_session=True,
        cwd=os.sep,
    )
