"""results.json and table.md, written anew after each result, and the same lines in the terminal."""
import json
import os
import time


def replace(path, text):
    """Writes a file whole or not at all."""
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


def table(head, rows):
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


class Results:
    def __init__(self, folder):
        self.folder = folder
        self.begun = time.monotonic()
        self.data = {"machine": {}, "checks": [], "seconds_per_epoch": {}, "seconds_of_seeds": {}, "left_out": {}, "complete": False}
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        self.write()

    def log(self, name):
        """The file of a part's output."""
        return self.folder / "logs" / (name.replace(" ", "-") + ".txt")

    def machine(self, facts):
        self.data["machine"] = facts
        for name, value in facts.items():
            print(f"{name}: {value}", flush=True)
        self.write()

    def check(self, name, passed, detail, seconds):
        self.data["checks"].append({"name": name, "passed": passed, "detail": detail, "seconds": round(seconds, 1)})
        self.say(f"{'passed' if passed else 'FAILED'}: {name} ({seconds:.1f} s): {detail}")

    def epoch(self, job, how, seconds):
        """Seconds per epoch of a job."""
        self.data["seconds_per_epoch"].setdefault(job, {})[how] = seconds
        self.say(f"{job}, {how}: {seconds:.4f} s per epoch")

    def seeds(self, job, how, seconds):
        """Seconds for an epoch of all seeds of a job."""
        self.data["seconds_of_seeds"].setdefault(job, {})[how] = seconds
        self.say(f"{job}, {how}: {seconds:.4f} s per epoch of all seeds")

    def left_out(self, what, why):
        self.data["left_out"][what] = why
        self.say(f"left out: {what}: {why}")

    def finish(self):
        self.data["complete"] = True
        self.say("done")

    def passed(self):
        return bool(self.data["checks"]) and all(check["passed"] for check in self.data["checks"])

    def say(self, line):
        print(f"{time.monotonic() - self.begun:5.0f} s  {line}", flush=True)
        self.write()

    def write(self):
        replace(self.folder / "results.json", json.dumps(self.data, indent=2) + "\n")
        replace(self.folder / "table.md", self.markdown())

    def markdown(self):
        machine, checks = self.data["machine"], self.data["checks"]
        text = "".join(f"- {name}: {value}\n" for name, value in machine.items()) + "\n"
        marks = [[c["name"], "yes" if c["passed"] else "NO", f"{c['seconds']:.1f} s", c["detail"]] for c in checks]
        text += table(["check", "passed", "took", "detail"], marks)
        for title, key in [("Seconds per epoch", "seconds_per_epoch"), ("Seconds per epoch of eight seeds", "seconds_of_seeds")]:
            jobs = self.data[key]
            columns = list(dict.fromkeys(how for by in jobs.values() for how in by))
            rows = [[job, *(f"{by[how]:.4f}" if how in by else "" for how in columns)] for job, by in jobs.items()]
            text += f"\n{title}\n\n" + table(["job", *columns], rows) if jobs else ""
        gains = [by["composed"] / by["unrolled"] for by in self.data["seconds_per_epoch"].values() if {"composed", "unrolled"} <= by.keys()]
        if gains:
            text += f"\n`unrolled` is {min(gains):.2f} to {max(gains):.2f} times as fast as `composed`.\n"
        return text + "".join(f"\nLeft out: {what}: {why}.\n" for what, why in self.data["left_out"].items())
