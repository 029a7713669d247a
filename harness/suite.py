"""What a suite file may say: the types, their defaults and their documentation.

The descriptions here become the JSON Schema that editors use (`suites/suite.schema.json`) and docs/suite.md.
Reading a file, finding its faults and resolving its paths is `suite_file`'s work. No torch here.
"""

from __future__ import annotations

from string import Template
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator
from pydantic_core import PydanticCustomError

from harness.records import Verdict

Dtype = Literal["float32", "bfloat16", "float16"]
Quantization = Literal["none", "4bit", "8bit"]
Length = Annotated[int, Field(ge=2)]
Lengths = Length | Annotated[tuple[Length, ...], Field(min_length=1)]
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"
FILE_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=64)]
ENDPOINT_PATTERN = r"^https?://[^\s@?#]+$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"
PromptFormat = Literal["alpaca_ko", "chat_template", "plain"]
Optimizer = Literal[
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "adamw_torch",
    "adamw_torch_fused",
    "adafactor",
    "sgd",
]
Schedule = Literal[
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
]
SEVEN_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def _list(lengths: int | tuple[int, ...]) -> tuple[int, ...]:
    return (lengths,) if isinstance(lengths, int) else lengths


class Section(BaseModel):
    """Base of all sections: unknown keys are faults, and a validated suite never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Adapter(Section):
    """A LoRA adapter, either trained by this suite or already on disk or on a hub."""

    trained_by: Name | None = Field(None, description="Name of a step under `training` that makes the adapter.")
    path: str | None = Field(None, description="Folder (relative to this file) or hub name of a PEFT adapter.")
    revision: str | None = Field(None, description="Branch, tag or commit of the adapter on a hub.")
    checkpoint: int | None = Field(
        None,
        ge=1,
        description="Optimizer step of `trained_by` whose adapter is used; default: the end of the training.",
    )
    mode: Literal["attached", "merged"] = Field(
        "attached",
        description="attached keeps the LoRA matrices apart; merged adds them into the weights first. "
        "The two give slightly different numbers.",
    )


class Model(Section):
    """One model under test."""

    like: Name | None = Field(None, description="Take every key not given here from this model.")
    backend: Literal["hf", "unsloth", "scripted", "openai_http"] = Field(
        "hf", description="What loads and runs the model; openai_http asks a server (see `servers`)."
    )
    path: str = Field("", description="Local folder (relative to this file) or hub name of the model.")
    revision: str | None = Field(None, description="Branch, tag or commit on a hub.")
    weights: Literal["file", "random"] = Field(
        "file",
        description="random takes only configuration and tokenizer from `path` and makes the weights from "
        "`weights_seed`: true speed and memory without a download, for suites without prompts and lm_eval.",
    )
    weights_seed: int = Field(3407, ge=0, description="Seed of random weights.")
    dtype: Dtype = Field("float32", description="Precision of weights and arithmetic.")
    quantization: Quantization = Field(
        "none", description="bitsandbytes quantization of the weights; needs a CUDA GPU."
    )
    attention: Literal["sdpa", "eager", "flash_attention_2"] = Field("sdpa", description="Attention implementation.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a CUDA GPU where there is one.")
    prompt_format: PromptFormat = Field(
        "chat_template",
        description="How a prompt is put before the model: the Korean Alpaca form, the tokenizer's chat template, "
        "or the bare text. Must be the form the adapter was trained with.",
    )
    adapter: Adapter | None = Field(None, description="LoRA adapter put on the model.")
    compare_to: Name | None = Field(None, description="Baseline model this one is compared with, in pairs.")
    trust_remote_code: bool = Field(False, description="Run Python code that comes with the model. Keep off.")
    max_seq_length: int = Field(2048, ge=8, description="Longest prompt plus answer, in tokens.")
    server: Name | None = Field(None, description="openai_http backend only: the server, from `servers`, that has it.")
    served_name: str | None = Field(
        None,
        min_length=1,
        description="openai_http backend only: the model's or adapter's name as an external server knows it. A server "
        "that the harness starts gets names of its own.",
    )
    script: str | None = Field(
        None, description="scripted backend only: JSON Lines file of answers (relative to this file)."
    )

    def for_training(self) -> Model:
        """Return the model as a training step loads it: with hf, where it answers through a server."""
        if self.backend != "openai_http":
            return self
        return self.model_copy(update={"backend": "hf", "server": None, "served_name": None})


class TrainingData(Section):
    """Rows with the columns instruction, input and output."""

    path: str | None = Field(None, description="JSON, JSONL, CSV or Parquet file, relative to this file.")
    hub: str | None = Field(None, description="`datasets` hub name, e.g. jojo0217/korean_safe_conversation.")
    revision: str | None = Field(None, description="Branch, tag or commit of the hub data set.")
    split: str = Field("train", description="Split of the hub data set.")
    limit: int | None = Field(None, ge=1, description="Use only the first rows.")
    prompt_format: PromptFormat = Field("alpaca_ko", description="How a row becomes text. EOS is always appended.")
    loss_on: Literal["everything", "answer"] = Field(
        "everything", description="answer leaves the prompt's tokens out of the loss."
    )


class Lora(Section):
    """Keys of peft.LoraConfig, by their own names."""

    r: int = Field(16, ge=1, description="Rank.")
    target_modules: tuple[str, ...] = Field(SEVEN_PROJECTIONS, min_length=1, description="Layers that get LoRA.")
    lora_alpha: int = Field(16, ge=1, description="Scaling numerator: the update is scaled by alpha / r.")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the LoRA input.")
    bias: Literal["none", "all", "lora_only"] = Field("none", description="Which biases train.")
    use_rslora: bool = Field(False, description="Scale by alpha / sqrt(r) instead of alpha / r.")
    loftq_config: dict[str, int] | None = Field(
        None, description="LoftQ initialisation, e.g. {loftq_bits: 4, loftq_iter: 1}."
    )
    use_gradient_checkpointing: bool | Literal["unsloth"] = Field(
        False, description="Recompute activations to save memory; 'unsloth' needs the unsloth backend."
    )
    random_state: int = Field(3407, ge=0, lt=2**32, description="Seed of the LoRA initialisation.")


class Trainer(Section):
    """Keys of transformers.TrainingArguments and trl.SFTConfig, by their own names."""

    per_device_train_batch_size: int = Field(2, ge=1, description="Rows per forward pass.")
    gradient_accumulation_steps: int = Field(4, ge=1, description="Forward passes per optimizer step.")
    warmup_steps: int = Field(5, ge=0, description="Steps over which the learning rate rises.")
    max_steps: int | None = Field(None, ge=1, description="Optimizer steps. Exclusive with num_train_epochs.")
    num_train_epochs: float | None = Field(None, gt=0, description="Passes over the data.")
    learning_rate: float = Field(2e-4, gt=0, description="Peak learning rate.")
    fp16: bool | None = Field(None, description="Mixed precision float16; default follows the model's dtype.")
    bf16: bool | None = Field(None, description="Mixed precision bfloat16; default follows the model's dtype.")
    logging_steps: int = Field(1, ge=1, description="Steps between points of the loss curve.")
    optim: Optimizer = Field(
        "adamw_8bit",
        description="Optimizer. On a CPU adamw_8bit is replaced by adamw_torch, and the report says so.",
    )
    weight_decay: float = Field(0.01, ge=0, description="AdamW weight decay.")
    lr_scheduler_type: Schedule = Field("linear", description="Learning-rate schedule.")
    seed: int = Field(3407, ge=0, lt=2**32, description="Seed of data order and dropout.")
    packing: bool = Field(False, description="Put several short rows into one sequence.")
    dataset_num_proc: int = Field(1, ge=1, description="Processes that tokenize the data.")
    output_dir: str = Field(
        "outputs",
        pattern=FILE_NAME_PATTERN,
        description="Trainer's working folder, inside the adapter's cache entry (a plain name).",
    )


class Training(Section):
    """A training step: run once, cached by a hash of everything that can change the adapter."""

    model: Name = Field(description="Model (under `models`, without adapter) that is fine-tuned.")
    backend: Literal["hf", "unsloth"] | None = Field(
        None, description="Default: the model's backend; hf for a model behind a server."
    )
    data: TrainingData = Field(description="The rows to train on.")
    max_seq_length: int = Field(2048, ge=8, description="Longer rows are cut (and counted).")
    dtype: Dtype | None = Field(None, description="Default: the model's dtype.")
    load_in_4bit: bool | None = Field(None, description="Default: whether the model's quantization is 4bit.")
    lora: Lora = Field(Lora(), description="LoRA settings.")
    trainer: Trainer = Field(Trainer(), description="Trainer settings.")
    checkpoints: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Optimizer steps after which the adapter is kept as well, for `adapter.checkpoint` of a model."
    )


class Vllm(Section):
    """How vLLM is started."""

    tensor_parallel_size: int = Field(1, ge=1, description="GPUs (on a CPU: processes) that share the weights.")
    gpu_memory_share: float | None = Field(
        None, gt=0, le=1, description="Share of the memory that vLLM reserves; default: 0.9 of a GPU's, 0.2 of a CPU's."
    )

    def share_of(self, device: str) -> float:
        """Return the share of the memory of 'cuda' or 'cpu' to reserve; on a CPU all else lives in the same memory."""
        return self.gpu_memory_share or (0.9 if device == "cuda" else 0.2)


class Sampling(Section):
    """How answers are drawn."""

    engine: Literal["auto", "plain", "fast", "vllm"] = Field(
        "auto",
        description="plain answers batch by batch; fast refills rows as answers end, replays CUDA graphs and lets base "
        "and adapters share batches; vllm does so with vLLM (extra `vllm`). auto takes what pays for its warm-up.",
    )
    vllm: Vllm = Field(Vllm(), description="Settings of the vllm engine.")

    max_new_tokens: int = Field(256, ge=1, description="Longest answer, in tokens.")
    batch_size: int | Literal["auto"] = Field(
        "auto",
        description="Prompts per batch; auto starts high and halves when memory runs out, and is four times the "
        "server's concurrency for a served model.",
    )
    temperature: float = Field(0.0, ge=0, description="0 is greedy decoding.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; only with temperature > 0.")
    seed: int = Field(3407, description="Seed of the first repeat; each further repeat adds one.")
    repeats: int = Field(1, ge=1, description="Answers per prompt; more than one needs temperature > 0.")


class TimingPoint(Section):
    """One batch at one length in and one length out."""

    batch_size: int = Field(ge=1, description="Rows in the batch.")
    prompt_tokens: int = Field(ge=2, description="Tokens in.")
    new_tokens: int = Field(ge=2, description="Tokens out; the end-of-sequence token is ignored.")


class Throughput(Section):
    """Speed at fixed lengths, apart from quality: every model does exactly the same work."""

    models: tuple[Name, ...] = Field((), description="Models to measure; default: all.")
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 8), min_length=1, description="Batches to measure."
    )
    prompt_tokens: Lengths = Field(64, description="Tokens in; a list measures every combination.")
    new_tokens: Lengths = Field(
        32, description="Tokens out; the end-of-sequence token is ignored. A list measures every combination."
    )
    points: tuple[TimingPoint, ...] = Field(
        (), description="Just these combinations, in place of batch_sizes, prompt_tokens and new_tokens."
    )
    engines: tuple[Literal["plain", "fast", "vllm"], ...] = Field(
        ("plain",), min_length=1, description="What generates; each measures every point in a process of its own."
    )
    warmup: int = Field(1, ge=0, description="Passes at each point that are not counted; their time is shown.")
    repeats: int = Field(5, ge=3, description="Passes that are counted; medians and quartiles are shown.")

    def grid(self) -> tuple[TimingPoint, ...]:
        """Return every point to measure, each once, the smallest first."""
        points = self.points or tuple(
            TimingPoint(batch_size=batch, prompt_tokens=prompt, new_tokens=new)
            for batch in self.batch_sizes
            for prompt in _list(self.prompt_tokens)
            for new in _list(self.new_tokens)
        )
        # A process keeps what an earlier pass needed; after smaller ones that is never more than its own need.
        return tuple(
            sorted(
                dict.fromkeys(points),
                key=lambda point: (point.batch_size * (point.prompt_tokens + point.new_tokens), point.batch_size),
            )
        )


class PrecisionPoint(Section):
    """One precision: the dtype of the arithmetic and how the weights are stored."""

    dtype: Dtype = Field(description="Precision of weights and arithmetic.")
    quantization: Quantization = Field("none", description="bitsandbytes quantization of the weights.")


class Precision(Section):
    """The same work in several precisions, each in a process of its own. The first is what others are compared with."""

    model: Name = Field(description="Model whose precision is varied.")
    dtypes: tuple[Dtype, ...] = Field((), description="Precisions to compare.")
    quantizations: tuple[Quantization, ...] = Field(
        (), description="Quantizations to compare, each with every dtype; default: the model's own."
    )
    points: tuple[PrecisionPoint, ...] = Field((), description="Just these, in place of dtypes and quantizations.")
    batch_size: int = Field(8, ge=1, description="Batch of the generation timing and of the flips.")
    prompt_tokens: int = Field(64, ge=2, description="Tokens in.")
    new_tokens: int = Field(32, ge=2, description="Tokens out.")
    training_steps: int = Field(5, ge=0, description="LoRA steps timed per precision; 0 leaves training out.")
    warmup: int = Field(1, ge=0, description="Passes and steps that are not counted.")
    repeats: int = Field(5, ge=3, description="Generation passes that are counted.")
    flips: int = Field(
        0,
        ge=0,
        description="Prompts of the suite, evenly spread, answered greedily in every precision: how many answers and "
        "verdicts change from precision alone. 0 leaves this out.",
    )

    def grid(self, own: Quantization) -> tuple[PrecisionPoint, ...]:
        """Return every precision to measure; `own` is the model's quantization."""
        return self.points or tuple(
            PrecisionPoint(dtype=dtype, quantization=quantization)
            for quantization in self.quantizations or (own,)
            for dtype in self.dtypes
        )


class Performance(Section):
    """What is timed. Leave a part out to skip it."""

    throughput: Throughput | None = Field(None, description="Prefill and decode speed at fixed lengths.")
    precision: Precision | None = Field(None, description="Speed, memory, losses and answers by precision.")
    roofline: bool = Field(
        False, description="Measure the machine's memory bandwidth and arithmetic peak, and show speeds against them."
    )


class Server(Section):
    """An OpenAI-compatible server that models with backend `openai_http` are asked through."""

    # A key typed into the suite by mistake must not be repeated in an error message.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Literal["external", "vllm", "transformers"] = Field(
        description="external runs already, at `endpoint`. vllm and transformers are started by the harness on this "
        "machine (`vllm serve`, `transformers serve`) when the first job needs them, and always stopped.",
    )
    endpoint: str | None = Field(
        None,
        pattern=ENDPOINT_PATTERN,
        description="external only: base URL, e.g. http://127.0.0.1:8000/v1. No password and no query in it.",
    )
    api_key_env: str | None = Field(
        None,
        pattern=VARIABLE_PATTERN,
        description="external only: name of the environment variable that holds the API key. The key is never stored.",
    )
    executable: str | None = Field(
        None,
        description="vllm and transformers only: the command to start, if it is not the one of this Python or on the "
        "PATH, e.g. /opt/vllm/bin/vllm.",
    )
    arguments: tuple[str, ...] = Field(
        (),
        description="vllm and transformers only: further arguments, e.g. [--gpu-memory-utilization, '0.8']. They are "
        "stored with the run: no secrets.",
    )
    start_timeout_seconds: float = Field(
        900, gt=0, description="Longest wait until a started server is healthy, and for a model's first answer."
    )
    concurrency: int = Field(16, ge=1, le=1024, description="Requests in flight at once.")
    timeout_seconds: float = Field(
        300,
        gt=0,
        description="Longest wait for one answer, waiting in the server's queue included; then it is retried.",
    )
    attempts: int = Field(4, ge=1, description="Tries per prompt on time-outs, lost connections, 429 and 5xx.")
    extra_request: dict[str, JsonValue] = Field(
        {},
        description="Further keys of the request, e.g. chat_template_kwargs: {enable_thinking: false}; null leaves out "
        "a key that the server does not take, e.g. seed: null.",
    )

    @field_validator("extra_request")
    @classmethod
    def _leaves_the_question_alone(cls, extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted({"model", "messages", "prompt", "stream", "n"} & set(extra)):
            raise PydanticCustomError("reserved_key", "must not set {key}", {"key": taken[0]})
        return extra

    @property
    def is_child(self) -> bool:
        """Whether the harness starts and stops it."""
        return self.kind != "external"


class Judge(Section):
    """A language model that grades answers, behind any OpenAI-compatible server."""

    # A key typed into the suite by mistake must not be repeated in an error message.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    endpoint: str = Field(
        pattern=ENDPOINT_PATTERN,
        description="Base URL of the server, e.g. http://127.0.0.1:8000/v1. No password and no query in it.",
    )
    model: str = Field(min_length=1, description="Model name as the server knows it.")
    api_key_env: str | None = Field(
        None,
        pattern=VARIABLE_PATTERN,
        description="Name of the environment variable that holds the API key. The key itself is never stored.",
    )
    concurrency: int = Field(4, ge=1, le=256, description="Requests in flight at once.")
    timeout_seconds: float = Field(120, gt=0, description="Longest wait for one reply; then it is asked again.")
    attempts: int = Field(5, ge=1, description="Tries per answer on time-outs, lost connections, 429 and 5xx.")
    max_new_tokens: int = Field(512, ge=8, description="Longest reply. A reply that is cut here is not graded.")
    extra_request: dict[str, JsonValue] = Field(
        {},
        description="Further keys of the request, e.g. chat_template_kwargs: {enable_thinking: false}; null leaves out "
        "a key that the server does not take, e.g. temperature: null.",
    )
    price_per_million_prompt_tokens: float | None = Field(None, ge=0, description="For the cost; in `currency`.")
    price_per_million_completion_tokens: float | None = Field(None, ge=0, description="For the cost; in `currency`.")
    currency: str = Field("USD", min_length=1, description="Currency of the prices.")

    @field_validator("extra_request")
    @classmethod
    def _leaves_the_question_alone(cls, extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted({"model", "messages", "stream", "n"} & set(extra)):
            raise PydanticCustomError("reserved_key", "must not set {key}", {"key": taken[0]})
        return extra


class Guard(Section):
    """A classifier loaded through transformers that grades answers."""

    path: str = Field(min_length=1, description="Local folder (relative to this file) or hub name of the model.")
    revision: str | None = Field(None, description="Branch, tag or commit on a hub.")
    kind: Literal["sequence_classifier", "causal_lm"] = Field(
        "sequence_classifier",
        description="causal_lm takes the label that the model finds most likely as its next words.",
    )
    labels: dict[str, Verdict] = Field(
        min_length=1, description="The model's label -> our verdict. A label left out becomes `unscored`."
    )
    reads: Literal["answer", "prompt_and_answer"] = Field(
        "prompt_and_answer", description="What a sequence_classifier is shown."
    )
    template: str | None = Field(
        None,
        description="causal_lm only: text with $prompt and $answer that the label follows. Default: the model's own "
        "chat template with the prompt as user and the answer as assistant.",
    )
    dtype: Dtype = Field("float32", description="Precision of weights and arithmetic.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a CUDA GPU where there is one.")
    batch_size: int = Field(8, ge=1, description="sequence_classifier only: answers per forward pass.")
    max_seq_length: int = Field(512, ge=8, description="Longer texts lose their end, and the grade says so.")

    @field_validator("template")
    @classmethod
    def _shows_the_answer(cls, template: str | None) -> str | None:
        if template is not None:
            names = Template(template).get_identifiers() if Template(template).is_valid() else []
            if "answer" not in names or not set(names) <= {"prompt", "answer"}:
                raise PydanticCustomError("template", "must hold $answer, and no other $name than $prompt ($$ for a $)")
        return template


class Grading(Section):
    """How answers are graded."""

    grader: Literal["lexicon"] = Field("lexicon", description="Grader whose verdicts make the headline.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of all intervals.")
    judges: dict[Name, Judge] = Field({}, description="Language models that grade too; several of them vote.")
    guards: dict[Name, Guard] = Field({}, description="Classifiers that grade too, by name.")


class LmEval(Section):
    """General ability: tasks of the lm-eval library, put to the same models with the same adapter and dtype."""

    tasks: tuple[str, ...] = Field(
        min_length=1, description="Names or patterns of tasks, groups or tags, e.g. kobest_hellaswag or kmmlu_*."
    )
    task_folders: tuple[str, ...] = Field(
        (), description="Folders of task files (YAML) of your own, relative to this file. They may name Python code."
    )
    models: tuple[Name, ...] = Field((), description="Models to test; default: all that are not scripted.")
    prompt_form: Literal["task", "model"] = Field(
        "task",
        description="task puts the text before the model as the task has it, for figures that others can compare; "
        "model puts that text into the model's prompt_format (for chat_template: lm-eval's apply_chat_template).",
    )
    num_fewshot: int | None = Field(
        None, ge=0, description="Worked examples before each question; default: as the task says."
    )
    limit: int | None = Field(None, ge=1, description="Use only the first questions of each task.")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(16, description="Sequences per forward pass.")


class Contamination(Section):
    """Overlap between training rows and prompts. It is looked for before every run, and the page shows the pairs."""

    exclude: bool = Field(
        False, description="Leave prompts that overlap out of the run; the page says how many and which."
    )
    ngram: int = Field(
        13,
        ge=8,
        description="Letters and digits in a row, shared by prompt and row, that count as an overlap in Korean, "
        "Japanese and Chinese if they are also `threshold` of the prompt. A shorter prompt must be there as a whole.",
    )
    ngram_other_scripts: int = Field(50, ge=8, description="The same for prompts in other scripts.")
    threshold: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share from which texts overlap: the Jaccard similarity of their character n-grams, or what the "
        "longest run in common makes up of the prompt.",
    )


class Gate(Section):
    """A condition that a run must meet, or its command ends with status 7 (see ci.md). Give exactly one limit."""

    metric: str = Field(
        min_length=1,
        description="refusal, over_refusal, corrected_refusal, corrected_over_refusal; incoherent, empty, truncated, "
        "unscored, failed; ability; training_seconds, training_peak_memory_bytes; or a measurement by its name, e.g. "
        "decode_tokens_per_second.",
    )
    model: str | None = Field(
        None, description="Model that is judged, or a pattern such as tuned_*: each that fits is judged by itself."
    )
    training: Name | None = Field(None, description="For training_...: the training step, in place of a model.")
    group: Literal["harmful", "lookalike", "general"] | None = Field(
        None,
        description="Which prompts. Default: harmful for refusal, lookalike for over_refusal, all for shares of "
        "broken answers.",
    )
    category: str | None = Field(None, description="Only the group's prompts of this category.")
    task: str | None = Field(None, description="For ability: the lm-eval task or group.")
    task_metric: str = Field("acc", description="For ability: lm-eval's metric.")
    task_filter: str | None = Field(None, description="For ability: lm-eval's filter, where a task has several.")
    conditions: dict[str, str | int | float | bool | None] = Field(
        {}, description="For a measurement: what was held fixed, e.g. {batch_size: 8}."
    )
    bound: Literal["value", "low", "high"] = Field(
        "value", description="What is judged: the figure itself, or the lower or upper bound of its interval."
    )
    at_least: float | None = Field(None, description="The figure is this or more.")
    at_most: float | None = Field(None, description="The figure is this or less.")
    min_rise: float | None = Field(
        None,
        description="The paired difference to the model's compare_to, or to the `baseline`, is this or more, e.g. 0.5 "
        "for 50 points.",
    )
    max_rise: float | None = Field(None, description="That difference is this or less.")
    max_drop: float | None = Field(None, description="That difference is minus this or more.")
    min_ratio: float | None = Field(
        None,
        gt=0,
        description="For measurements: the quotient to compare_to or `baseline` is this or more, e.g. 0.95.",
    )
    max_ratio: float | None = Field(None, gt=0, description="That quotient is this or less.")
    baseline: Name | None = Field(
        None, description="Name of a saved run (`harness baseline save`) to compare with, in place of `compare_to`."
    )
    may_differ: tuple[Literal["machine", "versions"], ...] = Field(
        (), description="Compare speed or memory with `baseline` even where these are not the same."
    )


class JobNeeds(Section):
    """What one job takes of a cluster's node while it runs."""

    gpus: float | None = Field(
        None,
        ge=0,
        description="GPUs; below 1 several jobs share one. Default: 1 where the model's device is cuda, or auto and "
        "the cluster has GPUs. Timings always get whole GPUs.",
    )
    cpus: float = Field(1, gt=0, description="Processor cores; also the threads of a job that computes on a CPU.")
    memory_gib: float | None = Field(
        None, gt=0, description="Main memory kept free for the job. Default: not looked at."
    )

    @field_validator("gpus")
    @classmethod
    def _whole_above_one(cls, gpus: float | None) -> float | None:
        if gpus is not None and gpus > 1 and gpus != int(gpus):
            raise PydanticCustomError("gpus", "must be a whole number above 1")
        return gpus


class Resources(JobNeeds):
    """What jobs need on a cluster (`--executor ray`). A run on one machine ignores it."""

    gpu: str | None = Field(
        None,
        description="Name of the GPU as nvidia-smi has it. Needed where a cluster's GPUs differ; others stay unused.",
    )
    by_model: dict[Name, JobNeeds] = Field({}, description="Other needs for the jobs of some models, by name.")


class Suite(Section):
    """A whole suite file."""

    name: Name = Field(description="Names the folder under results/.")
    description: str = Field("", description="What this suite is for; shown on the page.")
    prompts: tuple[str, ...] = Field(
        (), description="Prompt files (JSONL), relative to this file. Leave it out to measure performance alone."
    )
    prompt_limit: int | None = Field(
        None, ge=1, description="Use only so many prompts of each group, spread over the files; pairs stay together."
    )
    taxonomy: str | None = Field(None, description="Names of the categories (YAML), relative to this file.")
    models: dict[Name, Model] = Field(min_length=1, description="The models under test, by name.")
    servers: dict[Name, Server] = Field({}, description="Servers that models are asked through, by name.")
    training: dict[Name, Training] = Field({}, description="Adapters to train first, by name.")
    sweep: dict[Name, dict[str, JsonValue]] = Field(
        {},
        description="Keys of a training step or of a model, each with a list of the values to try, e.g. "
        "`lora.r: [8, 16, 64]`; `seeds` sets trainer.seed and lora.random_state, `checkpoints` tests adapters of "
        "several steps. Every combination is run; docs/sweeps.md.",
    )
    sampling: Sampling = Field(Sampling(), description="How answers are drawn.")
    grading: Grading = Field(Grading(), description="How answers are graded.")
    performance: Performance = Field(Performance(), description="What is timed.")
    contamination: Contamination = Field(Contamination(), description="Overlap between training rows and prompts.")
    lm_eval: LmEval | None = Field(None, description="Tests of general ability. Leave it out to skip them.")
    gates: dict[Name, Gate] = Field({}, description="Conditions that a run must meet, by name.")
    resources: Resources = Field(Resources(), description="What jobs need on a cluster (`--executor ray`).")
