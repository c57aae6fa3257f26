"""What is timed: specs of `experiments/`, and the scripts of `benches/peers/` that train the same networks."""
from typing import NamedTuple


class Job(NamedTuple):
    name: str
    spec: str
    set: list     # keys of the spec
    small: list   # further ones for a stand-in
    peer: str     # name of the job in benches/peers; empty if there is none


# Noise makes every sequence different: without, seven are computed, and drawn and uploaded once.
LINEDRAW = ["task.train_noise=0.1"]
LINEDRAW_SMALL = ["task.train_size=10", "task.test_size=5", "train.batch_size=4"]
DIGITS_SMALL = ["task.source={kind: glyphs, train: 10, test: 5}", "train.batch_size=4"]
WIDE = LINEDRAW + ["model.layers.0.hidden=512", "model.layers.0.dni.hidden=[1024, 1024]", "train.batch_size=256", "task.train_size=1600"]
WIDE_SMALL = LINEDRAW_SMALL + ["model.layers.0.hidden=16", "model.layers.0.dni.hidden=[32, 32]"]
SCENES = ["task.source={kind: scenes, dir: scenes, train: 1000, validation: 50}", "task.scores=false"]
SCENES_SMALL = ["task.source={kind: scenes, dir: scenes, train: 8, validation: 2, size: 16}", "task.resize=16", "task.threshold=1",
                "task.validation_batch_size=2", "train.batch_size=4", "model.encoder={kind: conv, channels: [4, 6]}",
                "model.layers.0={hidden: 8, dni: {hidden: [8]}}"]

JOBS = [
    Job("linedraw ccRNN", "linedraw_dni.yaml", LINEDRAW, LINEDRAW_SMALL, "linedraw_ccrnn"),
    Job("wide ccRNN: 512 units, synthesizer 2 x 1024, batch 256", "linedraw_dni.yaml", WIDE, WIDE_SMALL, "wide_ccrnn"),
    Job("lines ccRNN", "seqmnist_lines_dni.yaml", [], DIGITS_SMALL, "lines_ccrnn"),
    Job("recognition ccRNN", "seqmnist_dni.yaml", [], DIGITS_SMALL, "recognition_ccrnn"),
    Job("captioning ccRNN: 5000 captions, batch 50, 2 steps each", "captioning_dni.yaml", SCENES, SCENES_SMALL, ""),
    Job("linedraw cRNN", "linedraw.yaml", LINEDRAW, LINEDRAW_SMALL, "linedraw_crnn"),
    Job("lines cRNN", "seqmnist_lines.yaml", [], DIGITS_SMALL, "lines_crnn"),
    Job("recognition cRNN", "seqmnist.yaml", [], DIGITS_SMALL, "recognition_crnn"),
]


def run(kit, job, outputs, *keys, seeds="1"):
    """The command that trains a job; the last keys win."""
    keys = [*job.set, *(job.small if kit.dry else []), *keys]
    return [kit.program, "run", kit.place / "experiments" / job.spec, "--seeds", seeds, "--outputs", outputs,
            *(part for key in keys for part in ("--set", key))]
