"""A Slurm cluster of two virtual nodes on this machine, with ports, keys and files of its own."""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import lacking

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")

# Without accounting and without cgroups, as some clusters are. A requeued job is eligible again once
# its credential has expired: after two minutes, if nothing else is said.
CONF = """\
ClusterName=harness{ctld}
SlurmctldHost={host}
SlurmctldPort={ctld}
AuthInfo=socket={state}/munge.sock,cred_expire=5
MpiDefault=none
ProctrackType=proctrack/linuxproc
ReturnToService=1
SlurmctldPidFile={state}/ctld.pid
SlurmdPidFile={state}/%n.pid
SlurmdSpoolDir={state}/spool.%n
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={state}/state
SwitchType=switch/none
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SlurmctldLogFile={state}/ctld.log
SlurmdLogFile={state}/%n.log
SlurmdTimeout=120
KillWait=5
InactiveLimit=0
NodeName=n1 NodeHostname={host} Port={n1} CPUs=1 State=UNKNOWN
NodeName=n2 NodeHostname={host} Port={n2} CPUs=1 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def wait_until(condition: Callable[[], object], seconds: float = 300, what: str = "") -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what or "it took too long"
        time.sleep(0.1)


class Cluster:
    """Commands of a running cluster."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.environment = {"SLURM_CONF": str(state / "slurm.conf")}

    def __call__(self, *command: str) -> str:
        answer = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, f"{command}: {answer.stderr}"
        return answer.stdout

    def queue(self) -> dict[str, str]:
        """Element of an array, or job -> its state, of what is queued or runs."""
        lines = self("squeue", "-h", "-r", "-o", "%i %T").splitlines()
        return dict(line.split(maxsplit=1) for line in lines)

    def is_up(self) -> bool:
        try:
            nodes = self("sinfo", "-h", "-N", "-o", "%N %T").split()
        except AssertionError:
            return False
        return nodes == ["n1", "idle", "n2", "idle"]


def _free_ports(count: int) -> list[int]:
    found = [socket.socket() for _ in range(count)]
    for each in found:
        each.bind(("", 0))
    ports = [each.getsockname()[1] for each in found]
    for each in found:
        each.close()
    return ports


@contextmanager
def slurm_cluster(state: Path) -> Iterator[Cluster]:
    """A cluster, whose every process has ended afterwards; see `lacking` for where there is no Slurm."""
    if absent := [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]:
        lacking(f"Slurm is not installed ({', '.join(absent)}): apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        lacking("slurmd starts jobs as root alone")
    cluster = Cluster(state)
    _configure(state)
    with (state / "output").open("w") as log, ExitStack() as ended:

        def start(*command: str) -> None:
            environment = {**os.environ, **cluster.environment, "PATH": PATH}
            ended.callback(
                _end,
                subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL),
            )

        names = [f"--{name}-file={state}/munge.{name}" for name in ("key", "pid", "seed", "log")]
        start("munged", "--foreground", "--force", f"--socket={state}/munge.sock", *names)
        wait_until((state / "munge.sock").exists, what=f"munge did not come up: {state}/output")
        start("slurmctld", "-D", "-f", str(state / "slurm.conf"))
        for node in ("n1", "n2"):
            start("slurmd", "-D", "-N", node, "-f", str(state / "slurm.conf"))
        wait_until(cluster.is_up, what=f"Slurm did not come up: {state}/output, {state}/ctld.log")
        yield cluster
        cluster("scancel", "--user=root")
        wait_until(lambda: not cluster.queue(), what="jobs that do not end")


def _configure(state: Path) -> None:
    for name in ("state", "spool.n1", "spool.n2"):
        (state / name).mkdir(parents=True)
    ctld, n1, n2 = _free_ports(3)
    host = socket.gethostname().partition(".")[0]
    conf = CONF.format(ctld=ctld, n1=n1, n2=n2, host=host, state=state, user="root")
    (state / "slurm.conf").write_text(conf)
    key = state / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    state.chmod(0o755)  # munge wants a folder for its socket that everybody can enter


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(300)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
