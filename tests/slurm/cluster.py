"""A real SLURM cluster of one node on this machine: Debian's packages, started by hand, for the tests of the profile.

It needs root (daemons, /etc/slurm) and no other SLURM. `python tests/slurm/cluster.py start` leaves one running to
look around in, `... stop` ends it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge", "slurm-client")
PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "squeue", "scancel", "sinfo")
#: The job step of Snakemake's plugin drops SLURM_CONF, so the configuration must be where SLURM looks by itself.
CONFIG, GRES = Path("/etc/slurm/slurm.conf"), Path("/etc/slurm/gres.conf")
#: munged, which is not root, must be able to write it.
MUNGED_PID = Path("/run/munge/codebackdoor-tests.pid")
MUNGE = {Path("/run/munge"): 0o755, Path("/var/log/munge"): 0o700, Path("/var/lib/munge"): 0o711}
WAIT = 60.0


class NoClusterError(Exception):
    """Why there can be no cluster here, in one sentence."""


@dataclass(frozen=True)
class Cluster:
    """The daemons, their state and logs below ``folder``."""

    folder: Path = Path("/var/tmp/codebackdoor-slurm")

    def start(self) -> None:
        """Start munged, slurmctld and slurmd, and wait until the node is idle."""
        _install()
        if CONFIG.is_symlink() and CONFIG.readlink().is_relative_to(self.folder):
            # of tests that were killed
            self.stop()
        if any(path.exists() or path.is_symlink() for path in (CONFIG, GRES)):
            raise NoClusterError(f"{CONFIG} is there already: this machine has a SLURM of its own, which is left alone")
        shutil.rmtree(self.folder, ignore_errors=True)
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "slurm.conf").write_text(self._configuration())
        # two accelerators for the scheduler: empty files stand for the devices
        for number in range(2):
            (self.folder / f"accelerator{number}").touch()
        (self.folder / "gres.conf").write_text(f"NodeName=localhost Name=gpu File={self.folder}/accelerator[0-1]\n")
        CONFIG.parent.mkdir(parents=True, exist_ok=True)
        try:
            CONFIG.symlink_to(self.folder / "slurm.conf")
            GRES.symlink_to(self.folder / "gres.conf")
            self._start_munge()
            _run("slurmctld", "-f", str(CONFIG))
            _run("slurmd", "-N", "localhost", "-f", str(CONFIG))
            _wait("the node to be idle", lambda: _output("sinfo", "-h", "-o", "%T") == "idle")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End every job and daemon that was started here; what was installed stays."""
        if CONFIG.is_symlink():
            subprocess.run(["scancel", "--user=root", "--full", "--signal=KILL"], check=False, capture_output=True)
            subprocess.run(["scancel", "--user=root"], check=False, capture_output=True)
        for path in (self.folder / "slurmd.pid", self.folder / "slurmctld.pid", MUNGED_PID):
            _end(path)
        for link in (CONFIG, GRES):
            if link.is_symlink():
                link.unlink()

    def jobs(self) -> list[str]:
        """Ids of the jobs that wait or run."""
        return _output("squeue", "-h", "-o", "%A", "-t", "PENDING,RUNNING,COMPLETING").split()

    def show_logs(self) -> str:
        return "\n".join(f"== {path}\n{path.read_text()[-4000:]}" for path in sorted(self.folder.glob("*.log")))

    def _start_munge(self) -> None:
        for path, mode in MUNGE.items():
            path.mkdir(parents=True, exist_ok=True)
            shutil.chown(path, "munge", "munge")
            path.chmod(mode)
        if not Path("/etc/munge/munge.key").is_file():
            _run("mungekey", "-c")
            shutil.chown("/etc/munge/munge.key", "munge", "munge")
        _run("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", f"--pid-file={MUNGED_PID}")

    def _configuration(self) -> str:
        cores = os.cpu_count() or 1
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 3 // 4
        host = socket.gethostname().partition(".")[0]
        settings = {
            "ClusterName": "box",
            "SlurmctldHost": "localhost",
            "SlurmUser": "root",
            "AuthType": "auth/munge",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "SwitchType": "switch/none",
            "MpiDefault": "none",
            "ReturnToService": "2",
            "SlurmdParameters": "config_overrides",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU_Memory",
            "GresTypes": "gpu",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/none",
            # memory is enforced by polling: there are no control groups here
            "JobAcctGatherType": "jobacct_gather/linux",
            "JobAcctGatherFrequency": "task=2",
            "JobAcctGatherParams": "OverMemoryKill",
            # squeue knows finished jobs as long as this
            "MinJobAge": "3600",
            "KillWait": "5",
            "DefMemPerCPU": "500",
            "SchedulerParameters": "sched_interval=5,defer_batch",
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd.pid",
            "SlurmctldLogFile": self.folder / "slurmctld.log",
            "SlurmdLogFile": self.folder / "slurmd.log",
        }
        node = (
            f"NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cores} Boards=1 SocketsPerBoard=1 "
            f"CoresPerSocket={cores} ThreadsPerCore=1 RealMemory={memory} Gres=gpu:2 State=UNKNOWN"
        )
        partition = "PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE OverTimeLimit=0 State=UP"
        return "\n".join([*(f"{key}={value}" for key, value in settings.items()), node, partition, ""])


def _install() -> None:
    if os.geteuid() != 0:
        raise NoClusterError("a cluster in a box needs root, for its daemons and /etc/slurm")
    if all(map(shutil.which, PROGRAMS)):
        return
    if not shutil.which("apt-get"):
        raise NoClusterError("SLURM is not installed, and there is no apt-get to install it with")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *PACKAGES]):
        completed = subprocess.run(["apt-get", *command], env=environment, capture_output=True, text=True, check=False)
        if completed.returncode:
            raise NoClusterError(f"apt-get {command[0]} failed: {completed.stderr.strip().splitlines()[-1:]}")


def _run(*command: str) -> None:
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    if completed.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {completed.stderr.strip() or completed.stdout.strip()}")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _wait(goal: str, is_reached: object) -> None:
    assert callable(is_reached)
    end = time.monotonic() + WAIT
    while not is_reached():
        if time.monotonic() > end:
            raise RuntimeError(f"waited {WAIT:.0f} s for {goal}, in vain")
        time.sleep(0.2)


def _end(pid_file: Path) -> None:
    """End the daemon whose number the file holds, and wait until it is gone."""
    try:
        pid = int(pid_file.read_text())
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.1)
    else:
        os.kill(pid, signal.SIGKILL)
    pid_file.unlink(missing_ok=True)


if __name__ == "__main__":
    box = Cluster()
    if sys.argv[1:] == ["start"]:
        box.start()
        print("running: sinfo, squeue; end it with `python tests/slurm/cluster.py stop`")
    elif sys.argv[1:] == ["stop"]:
        box.stop()
    else:
        sys.exit("say start or stop")
