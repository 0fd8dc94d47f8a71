"""Owns the promise that nothing outlives Annex, not even after `kill -9`.

A guard is a tiny shell that reads from a pipe which only this process can write to. When this
process is gone, however it went, the pipe ends and the shell stops what it was told of.
"""

import signal
import subprocess

# Written before `eval` runs: first every stop signal, the latest first (clients before servers),
# and five seconds later SIGKILL for the process groups that are still there. Servers are left to
# finish by themselves: they have data to write.
_SCRIPT = """
while read -r signal target; do
  ask="kill -s $signal -- $target; $ask"
  case $target in -*) insist="kill -s KILL -- $target; $insist" ;; esac
done
eval "$ask"
[ -z "$insist" ] || { sleep 5; eval "$insist"; }
"""


class Guard:
    """Stops what it watches when this process dies; `release` it after an orderly stop."""

    def __init__(self) -> None:
        # A session of its own: neither Ctrl-C nor a kill of the process group reaches it.
        self._shell = subprocess.Popen(  # noqa: S603 - a constant script
            ["/bin/sh", "-c", _SCRIPT, "annex-guard"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch_process(self, pid: int, stop_signal: signal.Signals) -> None:
        self._tell(stop_signal, str(pid))

    def watch_group(self, group_id: int) -> None:
        self._tell(signal.SIGTERM, f"-{group_id}")

    def release(self) -> None:
        """End the guard without it doing anything; safe to call twice."""
        self._shell.kill()
        self._shell.wait()
        if self._shell.stdin is not None:
            self._shell.stdin.close()

    def _tell(self, stop_signal: signal.Signals, target: str) -> None:
        assert self._shell.stdin is not None  # noqa: S101 - opened with PIPE above
        self._shell.stdin.write(f"{stop_signal.name.removeprefix('SIG')} {target}\n".encode())
        self._shell.stdin.flush()
