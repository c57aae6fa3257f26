"""What has to hold on a GPU: the tests, the same bits from run to run, and what happens when something fails."""
import csv
import hashlib
import re
import shutil
import signal
import time

from jobs import JOBS, run

# Name, program, arguments, limit in seconds.
TESTS = [
    ("golden cases", "golden", [], 90),
    ("every task", "all", ["devices::"], 90),
    ("random experiments", "all", ["orders::"], 90),
]


class TimeUp(Exception):
    """A run was ended, since its part's time was up: nothing was found."""


def check(kit, name, does):
    """Notes whether something holds: a function that returns what it found, or fails an assertion. No failure ends the rest."""
    begun = time.monotonic()
    try:
        passed, detail = True, does()
    except TimeUp:
        return kit.results.left_out(name, "the time was up")
    except Exception as error:
        passed, detail = False, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}".removeprefix("AssertionError: ")
    kit.results.check(name, passed, detail, time.monotonic() - begun)


def tests(kit):
    # The stand-in repeats its bits; whether cuBLAS does is what the tests report.
    expects = "device,bits" if kit.dry else "device"
    environment = {"CCDNI_TEST_DEVICE": "cuda", "CCDNI_TEST_EXPECTS": expects, "CCDNI_GOLDEN": str(kit.place / "golden")}
    for name, program, arguments, limit in TESTS:
        command = [kit.place / "bin" / program, *arguments, "--test-threads=1"]
        check(kit, name, lambda: tested(*kit.call(command, 3600 if kit.dry else limit, kit.results.log(name), environment)))


def tested(code, said):
    """What a test program found."""
    by = {state: re.findall(rf"^test (.+?) +\.\.\. {state}", said, re.MULTILINE) for state in ("ok", "FAILED", "ignored")}
    bits = re.findall(r"^(.+) on cuda: other bits", said, re.MULTILINE)
    counts = f"{len(by['ok'])} passed, {len(by['FAILED'])} failed, {len(by['ignored'])} ignored"
    detail = counts + "".join(f"; {task}: other bits from run to run" for task in bits)
    assert code is not None, f"the time was up: {detail} so far"
    assert code == 0 and by["ok"] and not by["ignored"], f"exit code {code}: {detail}: {', '.join(by['FAILED'] or by['ignored'])}"
    return detail


def digest(outputs):
    """Of everything that a run computed; times are left out."""
    sum = hashlib.sha256()
    for path in sorted(outputs.glob("*/**/*")):
        if path.name == "metrics.csv":
            for row in csv.DictReader(path.open()):
                sum.update(repr([value for key, value in row.items() if key != "seconds"]).encode())
        elif path.name in ("decoder.safetensors", "predictions.npy", "scores.npy"):
            sum.update(path.read_bytes())
    return sum.hexdigest()


def trained(kit, log, job, outputs, *keys):
    """Trains a job to its end, and gives its digest."""
    code, said = kit.call(run(kit, job, outputs, *keys), 900 if kit.dry else 60, log)
    if code is None and kit.left() < 1:
        raise TimeUp
    assert code == 0, f"{job.name}: {'it took too long' if code is None else said}"
    return digest(outputs)


def bits(kit):
    """Two runs of every job give the same bits."""
    log = kit.results.log("bits")

    def same(job):
        digests = set()
        for folder in ["bits-1", "bits-2"]:
            shutil.rmtree(kit.work / folder, ignore_errors=True)
            digests.add(trained(kit, log, job, kit.work / folder, "train.epochs=2", "run.device=cuda"))
        assert len(digests) == 1, "other bits"
        return "the same bits from run to run"

    for job in JOBS:
        if kit.left() < 5:
            return kit.results.left_out(f"bits of {job.name} and what comes after", "the time was up")
        check(kit, f"bits, {job.name}", lambda: same(job))


def failures(kit):
    check(kit, "no GPU", lambda: refused(kit, 2, "cuda:0 is not there", CUDA_VISIBLE_DEVICES="", CUDA_FAKE_DEVICES="0"))
    huge = ["model.layers.0.hidden=4096", "train.batch_size=20000", "task.seq_len=1000", "task.train_size=25000", "train.bptt=null"]
    check(kit, "out of memory", lambda: refused(kit, 1, "the GPU is out of memory", *huge, CUDA_FAKE_MEMORY="100000000"))
    check(kit, "killed while another run trains", lambda: killed(kit))


def refused(kit, expected, message, *keys, **environment):
    """A run that cannot be trained ends with a message and an exit code."""
    outputs = kit.work / "refused"
    shutil.rmtree(outputs, ignore_errors=True)
    command = run(kit, JOBS[0], outputs, *keys, "run.device=cuda")
    code, said = kit.call(command, 60, kit.results.log("failures"), environment)
    assert code == expected and message in said and "panicked" not in said, f"exit code {code}: {said}"
    return next(line for line in said.splitlines() if message in line)


def killed(kit):
    """Of two equal runs that train at the same time, one is killed. The other ends as if it had been alone; the killed one goes on
    from its checkpoint, and ends with the same bits, or on the CPU with nearly the same loss."""
    log, job = kit.results.log("failures"), JOBS[0]
    keys = [f"train.epochs={8 if kit.dry else 60}", "run.checkpoint_every={epochs: 1}"]
    whole, part, moved = (kit.work / name for name in ("whole", "part", "moved"))
    processes = [kit.start(run(kit, job, outputs, *keys, "run.device=cuda"), log) for outputs in (whole, part)]
    while processes[1].poll() is None and kit.left() > 0 and len(losses(part)) < 3:
        time.sleep(0.02)
    assert processes[1].poll() is None, "it ended before it was killed"
    processes[1].send_signal(signal.SIGKILL)
    kit.end(processes[1], 10)
    code = kit.end(processes[0], 900 if kit.dry else 60)
    assert code == 0, f"the other run ended with {code}"
    shutil.copytree(part, moved)
    gone_on = trained(kit, log, job, part, *keys, "run.device=cuda")
    trained(kit, log, job, moved, *keys, "run.device=cpu")
    for outputs in (part, moved):
        logged = "".join(path.read_text() for path in outputs.glob("*/log.txt"))
        assert "goes on from its checkpoint" in logged, f"it began again: {logged}"
    expected, there = losses(whole)[-1], losses(moved)[-1]
    assert abs(there - expected) < 0.05 * expected, f"on the CPU it ended with a loss of {there}, not {expected}"
    assert gone_on == digest(whole), "other bits than without an interruption"
    return f"resumed with the same bits; on the CPU with a validation loss of {there:.4f}, on the GPU {expected:.4f}"


def losses(outputs):
    """Validation errors of the epochs so far."""
    tables = outputs.glob("*/seeds/1/metrics.csv")
    return [float(row["val_mse"]) for table in tables for row in csv.DictReader(table.open())]
