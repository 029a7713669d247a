"""What goes between the run's process and a job's process: one work order in, a stream of messages out.

Both are JSON lines on a pipe, no pickled objects, so that the same job can run on another machine.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from harness.records import Job, JobRecord, Record
from harness.suite import LmEval, Model, Sampling, Server, TimingPoint, Training


class Partner(Record):
    """Another model answered for in the same job: the same weights with another adapter, or none."""

    name: str
    model: Model
    adapter_place: str | None = None
    adapter_hash: str | None = None


class Served(Record):
    """Where a served model is asked, and by which name. The run fills both in for a server that it starts."""

    server: str = Field(description="the server's name in the suite")
    settings: Server
    endpoint: str = ""
    name: str = ""


class WorkOrder(Record):
    """Everything one process needs to do one job. Places are absolute folders or hub names."""

    job: Job
    model: Model
    model_place: str
    model_hash: str
    adapter_place: str | None = None
    adapter_hash: str | None = None
    partners: tuple[Partner, ...] = ()
    served: Served | None = None
    script_place: str | None = None
    weights_folder: str | None = Field(None, description="random weights that the make_weights job fills")
    training: Training | None = None
    training_hash: str | None = None
    training_folder: str | None = Field(None, description="adapter cache entry that the training fills")
    data_place: str | None = None
    sampling: Sampling
    points: tuple[TimingPoint, ...] = Field((), description="what a throughput job measures")
    lm_eval: LmEval | None = None
    task_folders: tuple[str, ...] = Field((), description="absolute folders of lm-eval task files")
    only: Literal["check_device", "load_tasks"] | None = Field(
        None, description="what the job ends after: its device will do; an lm_eval job has its tasks' data"
    )
    prompts: dict[str, str] = Field({}, description="prompt id -> text")
    finished_batches: frozenset[int] = frozenset()
    stream: bool = False
    log_file: str


class Records(Record):
    """Records to be stored together or not at all."""

    kind: Literal["records"] = "records"
    records: tuple[JobRecord, ...]


class Progress(Record):
    """How far the job is, in `unit`s of work."""

    kind: Literal["progress"] = "progress"
    done: int
    total: int
    unit: str


class Streamed(Record):
    """A piece of an answer as it is being written, shown and not stored."""

    kind: Literal["streamed"] = "streamed"
    model: str
    prompt_id: str
    text: str
    end: bool = Field(description="this is the last piece of the answer")


class Failed(Record):
    """The job ended in an error that has a sentence for the user."""

    kind: Literal["failed"] = "failed"
    error: str
    message: str
    hint: str | None = None


class Finished(Record):
    """The job did all its work."""

    kind: Literal["finished"] = "finished"


Message = Annotated[Records | Progress | Streamed | Failed | Finished, Field(discriminator="kind")]
message_adapter: TypeAdapter[Message] = TypeAdapter(Message)
