"""What a cluster costs and gains: `python -m tests.executors.measure [overhead] [speed-up] [size]`.

Nodes are processes of this machine.

Overhead: runs of 4 and of 16 jobs without a model, on this machine alone and on a Ray node with one core; the
difference divided by 12 is what one more job takes, start and end of the run left out. Other work on the machine only
ever adds, so the least of several rounds counts.

Speed-up: 8 jobs that wait for a slow server, on 1, 2 and 4 nodes with one core each. It shows that jobs are placed side
by side and that the run's process keeps up, not that this machine has more cores.

Size: a run of 20,000 answers on this machine alone.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.executors.conftest import Nodes
from tests.executors.suites import scripted_suite
from tests.executors.test_ray import PROMPTS, SlowServer, run, served_suite

FEW, MANY = 4, 16
ROUNDS = 3
SERVED_JOBS = 8
SECONDS_PER_ANSWER = 0.75
MANY_PROMPTS = 10_000


def seconds_of(suite: Path, nodes: Nodes | None) -> float:
    """Return the time of a whole new run."""
    started = time.monotonic()
    run(nodes, suite, "--new")
    return time.monotonic() - started


def overhead(folder: Path, nodes: Nodes) -> None:
    """Print seconds per job on this machine alone and on the cluster, measured in turns."""
    few, many = (scripted_suite(folder / str(count), models=count) for count in (FEW, MANY))
    rounds = [[seconds_of(suite, where) for where in (None, nodes) for suite in (few, many)] for _ in range(ROUNDS)]
    local_few, local_many, ray_few, ray_many = map(min, zip(*rounds, strict=True))
    local, ray = (local_many - local_few) / (MANY - FEW), (ray_many - ray_few) / (MANY - FEW)
    print(f"seconds per job, least of {ROUNDS}: local {local:.2f}, ray {ray:.2f}, ray / local {ray / local:.2f}")
    print(f"seconds of a run of {FEW} jobs: local {local_few:.1f}, ray {ray_few:.1f}")


def speed_up(folder: Path, nodes: Nodes) -> None:
    """Print the time of waiting jobs on more and more nodes; there is one node already."""
    server = SlowServer(SECONDS_PER_ANSWER)
    (folder / "served").mkdir()
    suite = served_suite(folder / "served", server, models=SERVED_JOBS)
    waiting = SERVED_JOBS * len(PROMPTS) * SECONDS_PER_ANSWER
    print(f"{SERVED_JOBS} jobs that wait {waiting:.0f} s together:")
    first = seconds_of(suite, nodes)
    print(f"  1 node: {first:.1f} s")
    count = 1
    for more in (1, 2):
        for _ in range(more):
            nodes.add()
        count += more
        seconds = seconds_of(suite, nodes)
        print(f"  {count} nodes: {seconds:.1f} s, {first / seconds:.2f} times as fast")
    server.close()


def size(folder: Path, _: Nodes) -> None:
    """Print what many answers take of the run's process, which grades them and writes the page, and of the disk."""
    suite = scripted_suite(folder / "size", models=2, prompts=MANY_PROMPTS)
    started = time.monotonic()
    path = run(None, suite, "-o", "sampling.batch_size=256")
    seconds = time.monotonic() - started
    rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    records = sum(file.stat().st_size for file in path.glob("jobs/*/records.jsonl"))
    page = (path / "report.html").stat().st_size
    print(
        f"{2 * MANY_PROMPTS} short answers, read from a file: {seconds:.0f} s, largest process {rss / 1e6:.0f} MB, "
        f"records {records / 1e6:.1f} MB, page {page / 1e6:.1f} MB"
    )


def main() -> None:
    """Measure all, or what is named."""
    parts = {"overhead": overhead, "speed-up": speed_up, "size": size}
    nodes = Nodes()
    try:
        nodes.add()
        with tempfile.TemporaryDirectory() as folder:
            for name in sys.argv[1:] or parts:
                parts[name](Path(folder), nodes)
    finally:
        nodes.close()


if __name__ == "__main__":
    main()
