"""A SLURM cluster of one node on this machine, from Debian's slurm-wlm, for the time of a test."""

import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str | None:
    """Why there can be no cluster here; None if there can."""
    absent = [
        name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not shutil.which(name)
    ]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm, munge)"
    if os.geteuid():
        return "slurmctld and slurmd are started as root"
    return None


@contextmanager
def cluster(folder: Path):
    """Runs munged, slurmctld and slurmd; yields the variables that SLURM's commands need."""
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    cpus = subprocess.run(["slurmd", "-C"], capture_output=True, text=True, check=True).stdout
    cpus = cpus.split("CPUs=")[1].split()[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, ports=_free_ports(2), cpus=cpus))
    variables = os.environ | {"SLURM_CONF": str(conf)}
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    places = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--seed-file={folder}/seed"]
    munge += [f"--{option}={folder / name}" for option, name in places.items()]
    daemons = []
    try:
        for command in (munge, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            log = (folder / f"{command[0]}.out").open("w")
            daemons.append(subprocess.Popen(command, env=variables, stdout=log, stderr=log))
            time.sleep(1.0)
        _wait_for_node(variables, folder)
        yield variables
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=30)


def _wait_for_node(variables: dict[str, str], folder: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        info = ["sinfo", "--noheader", "--format=%t"]
        state = subprocess.run(info, env=variables, capture_output=True, text=True)
        if state.stdout.strip() == "idle":
            return
        logs = "\n".join(path.read_text()[-2000:] for path in folder.glob("*.[lo][ou][gt]"))
        assert time.monotonic() < deadline, f"{state.stdout}{state.stderr}\n{logs}"
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
