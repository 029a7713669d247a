"""What happens on a node of a cluster: one job in a process of its own, its messages sent on in batches.

A node that sees the run's results folder works in it. Another works in a folder of its own that is laid out the same
(`HARNESS_NODE_FOLDER`, by default ~/.cache/korean-lora-harness), gets what it lacks as parcels, and sends back what
it made.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import Field

from harness.adapter_cache import CachedAdapter, lookup
from harness.content_hash import content_hash
from harness.environment import describe_environment
from harness.errors import HarnessError, NotAvailable
from harness.executors.needs import COMPUTING_BACKENDS, TIMINGS, differences
from harness.executors.parcels import pack, receive_adapter, unpack
from harness.orders import Failed, Finished, Message, WorkOrder
from harness.plan import code_hash
from harness.process import can_fork, run_in_batches
from harness.records import Environment, Record
from harness.store import write_atomically

NODE_FOLDER = "HARNESS_NODE_FOLDER"
BATCH_SECONDS = 0.2
LOG_BYTES = 200_000
"""How much of the end of a job's log comes back from a node that writes it to a folder of its own."""


class Node(Record):
    """A node of the cluster: its id, and its name for people."""

    id: str
    name: str


class Assignment(Record):
    """A job for a node."""

    order: WorkOrder
    planned: Environment = Field(description="the machine that the plan was made for")
    code: str = Field(description="hash of the code that the plan was made with")
    results: str = Field(description="results folder of the run's process")
    token: str = Field(description="name of a file in it, by which a node knows that it sees the same folder")
    threads: int
    offline: bool


class NodeReport(Record):
    """What a node says of a job. Everything but messages and log comes before the job's process is started."""

    node: Node
    started: bool = Field(False, description="the job starts on this node")
    refused: str | None = Field(None, description="why this node must not do the job")
    wants_parcels: bool = Field(False, description="the job needs files that this node does not see")
    messages: tuple[Message, ...] = ()
    log: str = ""


Fetch = Callable[[], bytes]
"""Gets a parcel, which may be large, when it is needed."""


def prepare_worker(assignment: Assignment, gpus: Sequence[str]) -> None:
    """Make this process, which belongs to the cluster, one whose children are jobs of the harness."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)  # nothing: a job without a GPU must not find one
    os.environ["OMP_NUM_THREADS"] = str(assignment.threads)
    if assignment.offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    vars(sys.modules["__main__"])["__file__"] = None  # else every job's process would import the cluster's own program


def do_assignment(
    assignment: Assignment, node: Node, gpus: Sequence[str], parcels: Mapping[str, Fetch] | None
) -> Generator[str | bytes]:
    """Do a job on this node with these of its GPUs.

    Yields reports as JSON, and a trained adapter as a packed folder before the job's last word.
    """
    refusal = _refusal(assignment, gpus)
    if refusal:
        yield _report(node, refused=refusal)
        return
    here = NodeFiles(assignment)
    order = assignment.order
    if here.lacks(order) and parcels is None:
        yield _report(node, wants_parcels=True)
        return
    yield _report(node, started=True)
    try:
        order = here.localise(order, parcels or {})
        check_model(order, node.name)
        for batch in _run(order, assignment):
            if order.training_folder and here.own and any(isinstance(message, Finished) for message in batch):
                yield pack(Path(order.training_folder))
            yield here.as_the_run_sees_it(_report(node, messages=batch))
    except HarnessError as error:
        failed = Failed(error=type(error).__name__, message=error.message, hint=error.hint)
        yield here.as_the_run_sees_it(_report(node, messages=[failed]))
    if here.own:
        yield _report(node, log=_end_of(Path(order.log_file)))


def _run(order: WorkOrder, assignment: Assignment) -> Iterator[list[Message]]:
    preload = can_fork(describe_node().gpus, [order.model]) and _fork_server_has(assignment.threads)
    with contextlib.closing(run_in_batches(order, preload=preload, seconds=BATCH_SECONDS)) as batches:
        yield from batches


_fork_server_threads: list[int] = []


def _fork_server_has(threads: int) -> bool:
    """Say whether this worker's fork server has so many threads: it read their number when it loaded torch."""
    if not _fork_server_threads:
        _fork_server_threads.append(threads)
    return _fork_server_threads == [threads]


@functools.cache
def describe_node() -> Environment:
    """Return this node, all its GPUs included."""
    return describe_environment()


def _refusal(assignment: Assignment, gpus: Sequence[str]) -> str | None:
    """Say why this node is not one that the plan was made for."""
    here = describe_node()
    numbered = [here.gpus[int(gpu)] for gpu in gpus if gpu.isdigit() and int(gpu) < len(here.gpus)]
    visible = (numbered or here.gpus) if gpus else ()
    found = differences(
        assignment.planned,
        here.model_copy(update={"gpus": tuple(visible)}),
        code=(assignment.code, code_hash()),
        timing=assignment.order.job.kind in TIMINGS,
    )
    return ", ".join(found) or None


def node_folder() -> Path:
    """Return the folder where this node keeps what no other node sees."""
    return Path(os.environ.get(NODE_FOLDER) or Path.home() / ".cache" / "korean-lora-harness")


class NodeFiles:
    """Where the files of a job are on this node."""

    def __init__(self, assignment: Assignment) -> None:
        self.results = Path(assignment.results)
        self.own = NODE_FOLDER in os.environ or not (self.results / assignment.token).is_file()
        """Whether this node works in a folder of its own."""
        self.folder = node_folder() if self.own else self.results

    def lacks(self, order: WorkOrder) -> bool:
        """Say whether the order names files that must be sent here."""
        return any(self._lacks(place) for place in places_to_send(order))

    def localise(self, order: WorkOrder, parcels: Mapping[str, Fetch]) -> WorkOrder:
        """Return the order with places of this node; what is lacking is unpacked."""
        places = {place: self._localise(place, parcels) for place in places_to_send(order)}

        def local(place: str | None) -> str | None:
            return places.get(place, self._own_place(place)) if place else place

        return order.model_copy(
            update={
                "adapter_place": local(order.adapter_place),
                "partners": tuple(
                    partner.model_copy(update={"adapter_place": local(partner.adapter_place)})
                    for partner in order.partners
                ),
                "script_place": local(order.script_place),
                "data_place": local(order.data_place),
                "task_folders": tuple(places[folder] for folder in order.task_folders),
                "model_place": self._own_place(order.model_place),
                "training_folder": local(order.training_folder),
                "weights_folder": local(order.weights_folder),
                "log_file": local(order.log_file),
            }
        )

    def as_the_run_sees_it(self, report: str) -> str:
        """Name files of this node's folder by where they are, or will be, for the run's process."""
        if not self.own:
            return report
        return report.replace(_escaped(self.folder), _escaped(self.results))

    def _lacks(self, place: str) -> bool:
        if not self.own:
            return not Path(place).is_relative_to(self.results) and not Path(place).exists()
        entry = cache_entry(place, self.results)
        return entry is None or not isinstance(lookup(Path(self._own_place(str(entry)))), CachedAdapter)

    def _localise(self, place: str, parcels: Mapping[str, Fetch]) -> str:
        if not self._lacks(place):
            return self._own_place(place)
        entry = cache_entry(place, self.results)
        if place not in parcels:
            if entry is not None and str(entry) == place:
                return self._own_place(place)  # an adapter that this job is to train
            raise NotAvailable(f"{place}: there is no such file or folder to send to the cluster's nodes.")
        if entry is None:
            return str(unpack(parcels[place](), Path(place).name, node_folder() / "received"))
        receive_adapter(parcels[place](), Path(self._own_place(str(entry))))
        return self._own_place(place)

    def _own_place(self, place: str) -> str:
        path = Path(place)
        if not self.own or not path.is_relative_to(self.results):
            return place
        return str(self.folder / path.relative_to(self.results))


def places_to_send(order: WorkOrder) -> list[str]:
    """Return the local places that a job reads and that are small enough to be sent: all but the model's."""
    adapters = [order.adapter_place, *(partner.adapter_place for partner in order.partners)]
    places = [*adapters, order.script_place, order.data_place, *order.task_folders, order.training_folder]
    return [place for place in dict.fromkeys(places) if place and Path(place).is_absolute()]


def cache_entry(place: str, results: Path) -> Path | None:
    """Return the adapter cache's entry that a place belongs to: an adapter's, or that of one of its checkpoints."""
    cache = results / "adapters"
    path = Path(place)
    return cache / path.relative_to(cache).parts[0] if path.is_relative_to(cache) else None


def check_model(order: WorkOrder, node: str) -> None:
    """Raise NotAvailable where this node does not see the order's model, or sees another one under its name."""
    place = order.model_place
    if order.model.backend not in COMPUTING_BACKENDS:
        return
    if order.model.weights == "random":
        if order.job.kind != "make_weights" and not Path(place).is_dir():
            sentence = f"Node {node} does not have the random weights {place}: another node made them."
            raise NotAvailable(sentence, "Random weights need a results folder that every node sees.")
        return
    try:
        same = _known_content_hash(place, order.model.revision) == order.model_hash
    except NotAvailable as error:
        raise NotAvailable(
            f"Node {node} cannot see the model {place}.",
            "Put it where every node finds it under this path, or name a model of a hub.",
        ) from error
    if not same:
        raise NotAvailable(
            f"Node {node} has another model under the name {place} than the one the run was planned with.",
            "Copy the model there again, or give its revision.",
        )


def _known_content_hash(place: str, revision: str | None) -> str:
    """Return a model's content hash, which this node remembers while sizes and times of the files stay the same."""
    if not Path(place).is_dir():
        return content_hash(place, revision)
    files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(Path(place).rglob("*"))]
    remembered = node_folder() / "model-hashes" / hashlib.sha256(json.dumps(files).encode()).hexdigest()
    if not remembered.exists():
        write_atomically(remembered, content_hash(place))
    return remembered.read_text(encoding="utf-8")


def _end_of(log: Path) -> str:
    if not log.exists():
        return ""
    return log.read_bytes()[-LOG_BYTES:].decode("utf-8", errors="replace")


def _report(node: Node, **content: object) -> str:
    return NodeReport.model_validate({"node": node, **content}).model_dump_json()


def _escaped(folder: Path) -> str:
    return json.dumps(str(folder), ensure_ascii=False)[1:-1]
