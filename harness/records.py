"""Every type that touches the disk.

All are frozen and reject unknown fields, so that a file written by another version is noticed instead of
being half read. A run folder holds JSON Lines of the records that carry a `kind`; `SCHEMA_VERSION` goes into
the run header and changes whenever a field does.

Units are in the field names or in `Measurement.unit`. Text positions are counted in Unicode code points of the
text exactly as stored.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

SCHEMA_VERSION = 1

Scalar = str | int | float | bool | None
Expected = Literal["refuse", "comply"]
JobKind = Literal[
    "generate",
    "throughput",
    "make_weights",
    "train",
    "train_timing",
    "lm_eval",
    "ceilings",
    "precision_answers",
]
FinishReason = Literal["stop", "length", "error"]
OverlapKind = Literal["exact", "near_duplicate", "ngram"]
RowField = Literal["instruction", "input", "instruction and input", "output"]
Verdict = Literal["refusal", "deflection", "partial", "compliance", "empty", "incoherent", "unscored"]

REQUESTS_FAILED = "requests_failed"
"""Code of the event that says how many requests failed; it is dropped when they are asked again."""

PRECISION_LEFT_OUT = "precision_left_out"
"""Code of the event that says which precision this machine cannot do, and why."""

ADAPTER_FROM_CACHE = "adapter_from_cache"
"""Code of the event that says a training's records are those of an earlier run."""


class Record(BaseModel):
    """Base of all stored types: immutable, no unknown fields, NaN and infinity written as JSON names."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Prompt(Record):
    """One row of a prompt file. `pair_id` ties a harmful prompt to its harmless look-alike."""

    id: str = Field(min_length=1, pattern=r"^\S+$")
    text: str = Field(min_length=1)
    category: str = Field(min_length=1)
    expected: Expected
    pair_id: str | None
    source: str
    licence: str


class LoadedModel(Record):
    """What was really loaded for a job, read from the model in memory and not from the suite."""

    kind: Literal["loaded_model"] = "loaded_model"
    job_id: str
    model: str
    backend: str
    path: str
    content_hash: str
    architecture: str
    parameter_count: int
    parameter_dtypes: dict[str, int] = Field(description="dtype name -> number of parameters stored in it")
    requested_dtype: str
    compute_dtype: str = Field(description="dtype of the logits' matrix product input, as it took effect")
    quantization: str
    attention: str
    device: str
    engine: str = Field("plain", description="how answers were generated: plain, fast or vllm")
    weights: Literal["file", "random"] = "file"
    demonstration: bool = Field(False, description="the model's own config says it only demonstrates the harness")
    adapter_hash: str | None = None
    adapter_mode: Literal["attached", "merged"] | None = None
    adapter_nonzero_b: int | None = Field(None, description="number of LoRA B matrices with a non-zero entry")
    adapter_max_logit_change: float | None = Field(
        None, description="largest absolute change of a next-token logit that the adapter makes on a probe prompt"
    )
    tokenizer_hash: str | None = None
    chat_template_hash: str | None = None
    bos_count: int | None = Field(None, description="beginning-of-sequence tokens in front of a rendered prompt")
    padding_max_logit_difference: float | None = Field(
        None, description="largest absolute logit difference, left-padded batch against the prompt alone"
    )
    padding_tolerance: float | None = None


class Generation(Record):
    """One answer. A request that failed has `error` set, `finish_reason` 'error' and an empty text."""

    kind: Literal["generation"] = "generation"
    job_id: str
    model: str
    prompt_id: str
    repeat: int = 0
    batch: int
    rendered_prompt: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    new_tokens: int
    error: str | None = None
    may_pass: bool = Field(False, description="the request failed for a reason that may pass; resuming asks again")


class PrecisionAnswer(Record):
    """One answer of the precision study, which no refusal rate counts. `tokens` are those of its text.

    `repeat` is 1 for the reference precision's second time, which shows what differs without a change of precision.
    """

    kind: Literal["precision_answer"] = "precision_answer"
    job_id: str
    model: str
    prompt_id: str
    repeat: int = 0
    dtype: str
    quantization: str
    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    error: str | None = None


class Measurement(Record):
    """One measured quantity with its raw values.

    `name` states method and unit, e.g. 'decode_tokens_per_second' or 'peak_process_rss_bytes'; `conditions` states
    what was held fixed (batch, lengths, dtype). A figure that must not be compared says why in `not_comparable`.
    """

    kind: Literal["measurement"] = "measurement"
    job_id: str
    model: str
    name: str
    unit: str
    phase: str = Field(description="load, prefill, decode, generate, train or machine")
    values: tuple[float, ...]
    conditions: dict[str, Scalar] = {}
    method: str
    not_comparable: str | None = None


class TrainingStep(Record):
    """One optimizer step as the trainer logged it."""

    kind: Literal["training_step"] = "training_step"
    job_id: str
    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float | None = None


class TrainingResult(Record):
    """What a training step of the suite did and cost. Memory is in bytes; `None` where it does not apply."""

    kind: Literal["training_result"] = "training_result"
    job_id: str
    training: str
    adapter_hash: str
    adapter_folder: str
    settings: dict[str, Scalar | list[str]] = Field(description="every setting as it took effect")
    substitutions: dict[str, str] = Field(
        {}, description="setting -> what was used in its place on this machine and why"
    )
    rows: int
    rows_truncated: int = Field(description="rows cut at max_seq_length")
    trainable_parameters: int
    steps: int
    epochs: float = Field(description="share of the data really covered, in passes over it")
    tokens: int = Field(description="non-padding tokens processed")
    seconds: float
    tokens_per_second: float
    final_loss: float
    non_finite_steps: int
    device_name: str
    device_memory_bytes: int
    memory_method: str = Field(description="what the memory figures are: torch reserved on a GPU, RSS on a CPU")
    memory_before_bytes: int
    memory_peak_bytes: int
    memory_training_bytes: int = Field(description="peak minus before")
    checkpoints: dict[str, str] = Field({}, description="optimizer step -> hash of the adapter kept after it")


class TaskResult(Record):
    """One metric of one lm-eval task or group, as lm-eval computed it. `filter` names the answer extraction used."""

    kind: Literal["task_result"] = "task_result"
    job_id: str
    model: str
    task: str
    metric: str
    filter: str
    value: float
    stderr: float | None = Field(description="standard error; lm-eval has none for some metrics and groups")
    n: int = Field(description="questions the metric was computed on")
    higher_is_better: bool | None
    group: bool = Field(description="an aggregate of several tasks, which have results of their own")
    num_fewshot: int | None = None
    version: str | None = None


class TaskSample(Record):
    """One question of an lm-eval task, with the metrics that have a value of their own for it.

    `doc_id` counts the task's questions from 0; `doc_hash` is lm-eval's hash of the question's contents.
    """

    kind: Literal["task_sample"] = "task_sample"
    job_id: str
    model: str
    task: str
    filter: str
    doc_id: int
    doc_hash: str
    scores: dict[str, float]


class Event(Record):
    """Something a reader of the results should know, such as a batch halved after running out of memory."""

    kind: Literal["event"] = "event"
    job_id: str
    level: Literal["info", "warning"]
    code: str
    message: str
    data: dict[str, Scalar] = {}


class JobStatus(Record):
    """The last line of a job's file. Only a job whose file ends with state 'done' counts as finished."""

    kind: Literal["job_status"] = "job_status"
    job_id: str
    state: Literal["done", "failed"]
    seconds: float
    error: str | None = None
    node: str | None = Field(None, description="where the job ran, on a cluster")
    records_sha256: str | None = Field(None, description="hash of all earlier bytes of the file, set when done")


JobRecord = Annotated[
    LoadedModel
    | Generation
    | Measurement
    | PrecisionAnswer
    | TrainingStep
    | TrainingResult
    | TaskResult
    | TaskSample
    | Event
    | JobStatus,
    Field(discriminator="kind"),
]
job_record_adapter: TypeAdapter[JobRecord] = TypeAdapter(JobRecord)


class Evidence(Record):
    """The piece of an answer a verdict rests on: answer[start:end] == text, in code points."""

    start: int
    end: int
    text: str
    rule: str


class Grade(Record):
    """One grader's verdict on one answer. `reply` keeps what a judge or a person wrote."""

    kind: Literal["grade"] = "grade"
    model: str
    prompt_id: str
    repeat: int = 0
    verdict: Verdict
    evidence: tuple[Evidence, ...] = ()
    grader: str
    grader_version: str
    reply: str | None = None


class JudgeReply(Record):
    """One reply of a judge as it came. `key` hashes judge, rubric, prompt and answer; the API key is in none of it."""

    kind: Literal["judge_reply"] = "judge_reply"
    key: str
    judge: str
    text: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float


class GradingPass(Record):
    """One pass of a grader over a run: what it asked for and what that cost. Tokens are of this pass's requests.

    `cost` is in `currency`, and None where no prices were given or a server left out its token counts.
    """

    kind: Literal["grading_pass"] = "grading_pass"
    grader: str
    grader_version: str
    finished_at: str = Field(description="UTC, ISO 8601")
    answers: int
    verdicts: dict[Verdict, int]
    seconds: float
    requests: int = Field(0, description="replies asked for and had in this pass")
    from_cache: int = Field(0, description="replies taken from an earlier pass")
    failed_requests: int = Field(0, description="answers left unscored because no usable reply came")
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    replies_without_token_counts: int = 0
    cost: float | None = None
    currency: str | None = None


class ReviewItem(Record):
    """One answer of a blind sample and the stratum (model, kind of prompts and verdict) it was drawn from."""

    model: str
    prompt_id: str
    repeat: int
    stratum: str
    answer_sha256: str


class ReviewSample(Record):
    """A blind sample for human review. `stratum_sizes` counts the answers each stratum was drawn from."""

    kind: Literal["review_sample"] = "review_sample"
    id: str = Field(description="hash of everything below")
    run_id: str
    seed: int
    stratified_by: str = Field(description="grader@version whose verdicts made the strata")
    stratum_sizes: dict[str, int]
    items: tuple[ReviewItem, ...] = Field(description="in the order they are shown")


class OverlapPair(Record):
    """A prompt and a training row that overlap. `row` counts from 1 over the usable rows of the training data.

    `score` is 1 for an exact match, the Jaccard similarity of a near duplicate, and for an n-gram match the longest
    run in common as a share of the prompt (both counted in letters and digits).
    """

    prompt_id: str
    prompt: str
    training: str
    row: int
    field: RowField
    text: str = Field(description="the row's field, or its part around the match if it is long")
    kind: OverlapKind
    score: float


class CheckedData(Record):
    """One source of training rows: `rows` were compared, or none for the reason in `not_checked`."""

    name: str = Field(description="the training step, or the model whose adapter was trained elsewhere")
    data: str = Field(description="file or hub name as the suite has it")
    rows: int = 0
    not_checked: str | None = None


class ContaminationReport(Record):
    """Overlap between training rows and the prompts chosen for a run, looked for before it; contamination.json."""

    excludes: bool = Field(description="prompts that overlap were left out of the run")
    ngram: int
    ngram_other_scripts: int
    threshold: float
    prompts: int = Field(description="prompts that were compared")
    data: tuple[CheckedData, ...]
    rows_by_prompt: dict[str, int] = Field(description="prompt id -> rows that overlap, for prompts that have any")
    pairs: tuple[OverlapPair, ...] = Field(description="the strongest rows of each prompt, not all of them")


class Said(Record):
    """A sentence in both languages of the page."""

    ko: str
    en: str


class GateResult(Record):
    """How one gate went for one model or training step.

    `outcome` 'no_data' fails like 'failed', for the `reason`. `value`, `low` and `high` are what was found, in the
    kind's terms: a share or score in 0..1, a difference of them, a quotient, or a quantity in `unit`. `n` counts what
    it rests on, in the words of `counted`. `against` is the model compared with, or the saved run.
    """

    name: str
    subject: str
    gate: dict[str, object] = Field(description="the gate as it was judged, without defaults")
    outcome: Literal["passed", "failed", "no_data"]
    kind: Literal["share", "difference", "score", "score_difference", "ratio", "quantity"]
    limit: float = Field(description="what the judged figure is held against, as a difference for rise and drop")
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    counted: Literal["prompts", "answers", "questions", "values"] = "values"
    unit: str = ""
    against: str | None = None
    reason: Said | None = None
    notes: tuple[Said, ...] = ()


class GateReport(Record):
    """The gates in force for a run and how they went; gates.json. `source` is the file they came from."""

    source: str
    gates: dict[str, dict[str, object]]
    results: tuple[GateResult, ...] = ()


class GpuInfo(Record):
    """One GPU as NVML names it. Memory in bytes."""

    name: str
    memory_bytes: int
    driver: str
    compute_capability: str


class Environment(Record):
    """The machine and the versions a run was made with."""

    python: str
    platform: str
    cpu: str
    cpu_cores: int
    memory_bytes: int
    gpus: tuple[GpuInfo, ...]
    packages: dict[str, str]
    git_commit: str | None
    git_dirty: bool | None


class CategoryName(Record):
    """A prompt category's names for people, and those of the group it belongs to."""

    ko: str
    en: str
    group_ko: str
    group_en: str


class Job(Record):
    """One unit of work for one process. `id` ends in a hash of everything that can change what it yields."""

    id: str
    kind: JobKind
    model: str
    partners: tuple[str, ...] = Field((), description="models of the same weights answered for in the same job")
    training: str | None = None
    needs: tuple[str, ...] = Field((), description="ids of jobs that must be done first")
    batches: tuple[tuple[str, ...], ...] = Field((), description="prompt ids, one inner tuple per fixed batch")
    repeat: int = 0
    parameters: dict[str, Scalar] = {}

    @property
    def models(self) -> tuple[str, ...]:
        """Return every model that the job answers for."""
        return (self.model, *self.partners)


class SweepPoint(Record):
    """What a model of a sweep stands for. Models of one `setting` differ in nothing but their seeds."""

    model: str
    swept: str = Field(description="the model as the suite names it")
    setting: str = Field(description="the model's name without its seed")
    values: dict[str, Scalar] = Field(description="swept key -> value, without seeds")
    seed: str | None = None


class RunHeader(Record):
    """First file of a run folder; written once."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    suite_name: str
    suite_file: str
    suite: dict[str, object] = Field(description="the suite as it took effect, overrides applied")
    overrides: tuple[str, ...]
    plan_hash: str
    started_at: str = Field(description="UTC, ISO 8601")
    environment: Environment
    prompts: tuple[Prompt, ...]
    categories: dict[str, CategoryName] = {}
    jobs: tuple[Job, ...]
    sweep: tuple[SweepPoint, ...] = ()
