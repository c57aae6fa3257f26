"""The machine: its CUDA libraries, and programs that are run with them, each with a time limit."""
import os
import platform
import signal
import site
import subprocess
import sys
import time
from pathlib import Path

# What the program is linked with, and what these load.
LIBRARIES = ["libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libnvrtc.so.13"]


def library_folders(first):
    """The folders with CUDA's libraries: the one that is given, those of Python's packages, those of a toolkit."""
    packages = [Path(folder) for folder in [*site.getsitepackages(), site.getusersitepackages(), *sys.path] if folder]
    folders = [first.resolve()] if first else []
    for pattern in ["nvidia/cu13/lib", "nvidia/*/lib"]:
        folders += [path for folder in packages for path in sorted(folder.glob(pattern))]
    for pattern in ["usr/local/cuda*/lib64", "usr/local/cuda*/targets/*/lib", "opt/cuda/lib64", "usr/lib/x86_64-linux-gnu", "usr/lib64"]:
        folders += sorted(Path("/").glob(pattern))
    needed = {name: next((folder for folder in folders if (folder / name).exists()), None) for name in LIBRARIES}
    return list(dict.fromkeys(folder for folder in needed.values() if folder))


class Kit:
    """What was unpacked, and how it is run."""

    def __init__(self, place, results, seconds, libraries, dry):
        self.place, self.results, self.dry = place, results, dry
        self.deadline = self.part_ends = time.monotonic() + seconds
        self.program = place / "bin" / "ccdni"
        self.work = place.parent / "work"
        self.work.mkdir()
        self.folders = library_folders(libraries)
        # Kernels that the driver has compiled are kept for the next process.
        self.environment = {**os.environ, "CUDA_CACHE_PATH": str(self.work / "kernels"), "CARGO_BIN_EXE_ccdni": str(self.program)}
        # After them what the machine names itself, where the driver's library may be.
        self.environment["LD_LIBRARY_PATH"] = ":".join(filter(None, [*map(str, self.folders), os.environ.get("LD_LIBRARY_PATH")]))

    def begin(self, seconds):
        """Begins a part that takes so many seconds at most; false if the time of all is up."""
        now = time.monotonic()
        self.part_ends = min(self.deadline, now + seconds * (60 if self.dry else 1))
        return self.deadline - now > 5

    def left(self):
        """Seconds until the part's time is up."""
        return self.part_ends - time.monotonic()

    def start(self, command, log, environment=None):
        """Starts a program in a process group of its own. Its output is appended to a log."""
        with open(log, "ab") as out:
            return subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                    env={**self.environment, **(environment or {})}, cwd=self.work, start_new_session=True)

    def end(self, process, limit):
        """Its exit code; None if it took too long and was killed."""
        try:
            return process.wait(max(0.1, min(limit, self.left())))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None

    def call(self, command, limit, log, environment=None):
        """Runs a program to its end: exit code and output."""
        before = log.stat().st_size if log.exists() else 0
        code = self.end(self.start(command, log, environment), limit)
        return code, log.read_bytes()[before:].decode(errors="replace")

    def describe(self):
        """Which GPU, driver and program the results are of. Ends here if the program does not start."""
        log = self.results.log("machine")
        code, version = self.call([self.program, "--version"], 30, log)
        if code != 0:
            sys.exit(f"the program does not start: {version}\nCUDA's libraries were found in {self.folders}; name a folder: --libraries DIR")
        try:
            _, gpu = self.call(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"], 30, log)
        except OSError:
            gpu = "unknown (no nvidia-smi)"
        return {
            "GPU, driver, memory": "a stand-in: times mean nothing" if self.dry else gpu.strip(),
            "CPU": f"{cpu_name()}, {len(os.sched_getaffinity(0))} cores",
            "program": f"{version.strip()}, commit {(self.place / 'commit').read_text().strip()}",
            "Python": platform.python_version(),
            "libraries": ", ".join(map(str, self.folders)),
        }


def cpu_name():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
