"""Checks of a suite that no single value can show: names that must exist, files, and keys that exclude each other."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from harness.gates.checks import check_gates
from harness.lm_eval_tasks import is_known, lm_eval_folders, task_names
from harness.prompts import read_script
from harness.records import Prompt
from harness.server_checks import ServerChecks
from harness.suite import Adapter, Model, Performance, Precision, Suite, Trainer, Training
from harness.suite_paths import is_file, is_folder, is_hub_name, locate, siblings
from harness.suite_yaml import Document, KeyPath, nearest, shown

_DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
_WORK = ("prompts", "lm_eval", "performance", "training")
"""The sections of which a suite needs at least one."""
_FLOAT16_ON_CPU = "float16 arithmetic on a CPU is uselessly slow: use bfloat16 or float32."


class Checker:
    """Notes the cross faults of one suite in its document.

    `wrong` are key paths already reported, whose values are only stand-ins: nothing more is said about them.
    Models in `unresolved` lack what they should have inherited, so their values are not checked.
    """

    def __init__(self, document: Document, base: Path, wrong: set[KeyPath], unresolved: set[str]) -> None:
        self.document = document
        self.base = base
        self.wrong = wrong
        self.unresolved = unresolved

    def check(self, suite: Suite) -> None:
        """Run every check."""
        for name, model in suite.models.items():
            if name not in self.unresolved:
                self._model(suite, name, model)
        for name, training in suite.training.items():
            self._training(suite, name, training)
        self.check_guards(suite)
        self._quality(suite)
        self._sampling(suite)
        self._performance(suite)
        self._lm_eval(suite)
        ServerChecks(self, suite).check()
        for name in suite.resources.by_model:
            self._known(("resources", "by_model", name), name, "models", "model")

    def check_guards(self, suite: Suite) -> None:
        """Check the guards alone."""
        for name, guard in suite.grading.guards.items():
            path: KeyPath = ("grading", "guards", name)
            local = self._folder_or_hub((*path, "path"), guard.path, "config.json")
            if local and guard.revision is not None:
                self.fault((*path, "revision"), "a local folder has no revision.")
            if guard.template is not None and guard.kind != "causal_lm":
                self.fault((*path, "template"), "only a guard with kind: causal_lm has a template.")
            if "reads" in guard.model_fields_set and guard.kind != "sequence_classifier":
                self.fault((*path, "reads"), "only a guard with kind: sequence_classifier chooses what it reads.")

    def fault(self, path: KeyPath, problem: str, close: str | None = None) -> None:
        """Note a fault, unless its value, or one inside or around it, is a stand-in for a wrong one."""
        for other in self.wrong:
            shorter = min(len(other), len(path))
            if other[:shorter] == path[:shorter]:
                return
        self.document.add_fault(path, problem, close)

    def existing_file(self, path: KeyPath, name: str) -> Path | None:
        """The file a key names, or None after noting that it does not exist."""
        file = self.base / name
        if is_file(file):
            return file
        self.fault(path, f"there is no file {shown(file)}.", nearest(file.name, siblings(file)))
        return None

    def _inherited(self, key: KeyPath, model: Model) -> bool:
        """Whether the value comes from the model that this one is like."""
        return model.like is not None and key not in self.document.places

    def _known(self, path: KeyPath, name: str, section: str, kind: str) -> bool:
        """Whether `section` has the name; notes a fault where it does not."""
        names = self.document.keys(section)
        if name in names:
            return True
        self.fault(path, f"there is no {kind} '{name}'.", nearest(name, names))
        return False

    def _folder_or_hub(self, path: KeyPath, name: str, marker: str) -> bool:
        """Check a model or adapter location; True if it is local."""
        folder = locate(self.base, name)
        if folder is None:
            if not is_hub_name(name):
                self.fault(path, f"'{name}' is neither an existing folder nor a hub name (organisation/name).")
            return False
        if not is_folder(folder):
            self.fault(path, f"there is no folder {shown(folder)}.", nearest(folder.name, siblings(folder)))
        elif not is_file(folder / marker):
            self.fault(path, f"the folder {shown(folder)} has no {marker}.")
        return True

    def _model(self, suite: Suite, name: str, model: Model) -> None:
        path: KeyPath = ("models", name)
        self._baseline(suite, name, model)
        if model.backend == "scripted":
            self._scripted_model(path, model)
            return
        if model.backend == "openai_http":
            ServerChecks(self, suite).model(name, model)
            return
        ServerChecks(self, suite).not_served(name, model)
        if model.script is not None and not self._inherited((*path, "script"), model):
            self.fault((*path, "script"), "only a model with backend 'scripted' has a script.")
        if self._inherited((*path, "path"), model):
            pass  # checked where it is given
        elif not model.path:
            self.fault((*path, "path"), "the model needs a local folder or a hub name.")
        elif self._folder_or_hub((*path, "path"), model.path, "config.json") and model.revision is not None:
            self.fault((*path, "revision"), "a local folder has no revision.")
        self._weights(path, model)
        self._model_precision(path, model)
        if model.adapter is not None:
            self._adapter(suite, (*path, "adapter"), model, model.adapter)
        answer = suite.sampling.max_new_tokens
        known = ("sampling", "max_new_tokens") not in self.wrong and suite.prompts
        if known and answer >= model.max_seq_length and not self._inherited((*path, "max_seq_length"), model):
            room = f"{model.max_seq_length} tokens have no room for a prompt and an answer of {answer} tokens"
            self.fault((*path, "max_seq_length"), f"{room} (sampling.max_new_tokens).")

    def _quality(self, suite: Suite) -> None:
        """Answers of random weights mean nothing, so nothing may report them; and a suite must ask for something."""
        asks = [key for key in ("prompts", "lm_eval") if getattr(suite, key)]
        for name, model in suite.models.items():
            key: KeyPath = ("models", name, "weights")
            if model.weights == "random" and asks and name not in self.unresolved and not self._inherited(key, model):
                self.fault(
                    key,
                    f"random weights answer nothing of sense, so a suite that reports quality ({' and '.join(asks)}) "
                    "takes no model with them: leave that out, or use weights: file.",
                )
        wrong = {path[0] for path in self.wrong}  # what is asked there is not known
        if not asks and not suite.training and suite.performance == Performance() and not wrong & set(_WORK):
            self.fault(("name",), f"the suite asks for nothing: give {', '.join(_WORK[:-1])} or {_WORK[-1]}.")

    def _weights(self, path: KeyPath, model: Model) -> None:
        key = (*path, "weights_seed")
        if model.weights == "file" and "weights_seed" in model.model_fields_set and not self._inherited(key, model):
            self.fault(key, "only a model with weights: random has a seed.")

    def _baseline(self, suite: Suite, name: str, model: Model) -> None:
        key: KeyPath = ("models", name, "compare_to")
        if model.compare_to is not None:
            if model.compare_to == name:
                self.fault(key, "a model cannot be its own baseline.")
            elif not self._inherited(key, model):
                self._known(key, model.compare_to, "models", "model")
        elif model.adapter is not None and len(suite.models) > 1:
            self.fault(key, "a model with an adapter needs the name of its baseline model here.")

    def _scripted_model(self, path: KeyPath, model: Model) -> None:
        if self._inherited((*path, "script"), model):
            pass  # checked where it is given
        elif model.script is None:
            self.fault((*path, "script"), "a model with backend 'scripted' needs a file of answers here.")
        else:
            self.existing_file((*path, "script"), model.script)
        if model.path and not self._inherited((*path, "path"), model):
            self.fault((*path, "path"), "a scripted model has a script and no path.")
        if model.adapter is not None:
            self.fault((*path, "adapter"), "a scripted model takes no adapter.")
        if model.weights == "random":
            self.fault((*path, "weights"), "a scripted model has no weights.")

    def gates(self, suite: Suite, prompts: Sequence[Prompt], baselines: Collection[str] | None) -> None:
        """Check the gates; `baselines` are the names of the saved runs, None where they are not to be checked."""
        unsure = {str(path[0]) for path in self.wrong} | ({"models"} if self.unresolved else set())
        check_gates(suite, prompts, self.fault, self.base, baselines, unsure)

    def scripts(self, suite: Suite, prompts: Sequence[Prompt]) -> None:
        """Check that every scripted model has an answer to every prompt."""
        for name, model in suite.models.items():
            path: KeyPath = ("models", name, "script")
            inherited = name in self.unresolved or self._inherited(path, model)
            if inherited or model.script is None or not is_file(self.base / model.script):
                continue
            answers, faults = read_script(self.base / model.script)
            self.document.faults += faults
            missing = [prompt.id for prompt in prompts if prompt.id not in answers]
            if missing and not faults:
                more = f" and to {len(missing) - 1} more" if len(missing) > 1 else ""
                self.fault(path, f"{model.script} has no answer to prompt '{missing[0]}'{more}.")

    def _model_precision(self, path: KeyPath, model: Model) -> None:
        if model.device == "cpu":
            if model.dtype == "float16":
                self.fault((*path, "dtype"), _FLOAT16_ON_CPU)
            if model.quantization != "none":
                self.fault((*path, "quantization"), "bitsandbytes quantization needs a CUDA GPU, not a CPU.")
            if model.attention == "flash_attention_2":
                self.fault((*path, "attention"), "flash_attention_2 needs a CUDA GPU, not a CPU.")
            if model.backend == "unsloth":
                self.fault((*path, "backend"), "unsloth needs a CUDA GPU, not a CPU.")
        if model.attention == "flash_attention_2" and model.dtype == "float32":
            self.fault((*path, "attention"), "flash_attention_2 needs dtype float16 or bfloat16.")

    def _adapter(self, suite: Suite, path: KeyPath, model: Model, adapter: Adapter) -> None:
        if (adapter.trained_by is None) == (adapter.path is None):
            both = "not both" if adapter.path is not None else "neither is given"
            self.fault(path, f"an adapter has either trained_by or path ({both}).")
        if adapter.trained_by is not None:
            if adapter.revision is not None:
                self.fault((*path, "revision"), "an adapter trained by this suite has no revision.")
            self._checkpoint(suite, (*path, "checkpoint"), adapter)
            if not self._known((*path, "trained_by"), adapter.trained_by, "training", "training step"):
                return
            training = suite.training.get(adapter.trained_by)
            if training is not None and training.data.prompt_format != model.prompt_format:
                self.fault(
                    (*path[:-1], "prompt_format"),
                    f"'{model.prompt_format}' is not the form that '{adapter.trained_by}' trains with "
                    f"('{training.data.prompt_format}').",
                )
        elif adapter.checkpoint is not None:
            self.fault((*path, "checkpoint"), "only an adapter trained by this suite has checkpoints.")
        elif adapter.path is not None:
            local = self._folder_or_hub((*path, "path"), adapter.path, "adapter_config.json")
            if local and adapter.revision is not None:
                self.fault((*path, "revision"), "a local folder has no revision.")

    def _checkpoint(self, suite: Suite, path: KeyPath, adapter: Adapter) -> None:
        training = suite.training.get(str(adapter.trained_by))
        if training is not None and adapter.checkpoint is not None and adapter.checkpoint not in training.checkpoints:
            kept = ", ".join(map(str, training.checkpoints)) or "none"
            self.fault(path, f"'{adapter.trained_by}' keeps no adapter of step {adapter.checkpoint} (it keeps {kept}).")

    def _training(self, suite: Suite, name: str, training: Training) -> None:
        path: KeyPath = ("training", name)
        steps = training.trainer.max_steps
        if steps is not None and any(step > steps for step in training.checkpoints):
            self.fault((*path, "checkpoints"), f"the training ends after {steps} steps (trainer.max_steps).")
        self._training_data(path, training)
        self._trainer((*path, "trainer"), training.trainer)
        if not self._known((*path, "model"), training.model, "models", "model"):
            return
        model = suite.models.get(training.model)
        if model is None or training.model in self.unresolved:
            return
        if model.adapter is not None:
            self.fault((*path, "model"), f"'{training.model}' has an adapter; name the base model.")
        backend = training.backend or model.for_training().backend
        if backend == "scripted":
            self.fault((*path, "model"), f"'{training.model}' is scripted and cannot be trained.")
        if training.lora.use_gradient_checkpointing == "unsloth" and backend != "unsloth":
            key = (*path, "lora", "use_gradient_checkpointing")
            self.fault(key, f"'unsloth' needs the unsloth backend; this step has backend '{backend}'.")
        if model.device == "cpu":
            self._training_on_cpu(path, training)

    def _trainer(self, path: KeyPath, trainer: Trainer) -> None:
        if (trainer.max_steps is None) == (trainer.num_train_epochs is None):
            both = "neither is given" if trainer.max_steps is None else "not both"
            self.fault(path, f"give either max_steps or num_train_epochs ({both}).")
        if trainer.fp16 and trainer.bf16:
            self.fault((*path, "bf16"), "fp16 and bf16 exclude each other.")

    def _training_on_cpu(self, path: KeyPath, training: Training) -> None:
        if training.dtype == "float16":
            self.fault((*path, "dtype"), _FLOAT16_ON_CPU)
        if training.trainer.fp16:
            self.fault((*path, "trainer", "fp16"), _FLOAT16_ON_CPU)
        if training.load_in_4bit:
            self.fault((*path, "load_in_4bit"), "4-bit weights need a CUDA GPU, not a CPU.")
        if training.backend == "unsloth":
            self.fault((*path, "backend"), "unsloth needs a CUDA GPU, not a CPU.")

    def _training_data(self, path: KeyPath, training: Training) -> None:
        data = training.data
        key = (*path, "data")
        if (data.path is None) == (data.hub is None):
            both = "neither is given" if data.path is None else "not both"
            self.fault(key, f"give either path (a local file) or hub (a data set's name) ({both}).")
        if data.path is not None:
            file = self.existing_file((*key, "path"), data.path)
            if file is not None and file.suffix.lower() not in _DATA_SUFFIXES:
                self.fault((*key, "path"), f"the file must be one of {', '.join(_DATA_SUFFIXES)}.")
            for hub_key in ("revision", "split"):
                if hub_key in data.model_fields_set and data.hub is None:
                    self.fault((*key, hub_key), "only a hub data set has this; `path` names a local file.")
        elif data.hub is not None and not is_hub_name(data.hub):
            self.fault((*key, "hub"), f"'{data.hub}' is not a hub name (organisation/name).")

    def _sampling(self, suite: Suite) -> None:
        sampling = suite.sampling
        if sampling.temperature > 0:
            return
        if sampling.repeats > 1:
            problem = "greedy decoding (temperature 0) gives the same answer each time; set a temperature."
            self.fault(("sampling", "repeats"), problem)
        if sampling.top_p < 1:
            self.fault(("sampling", "top_p"), "top_p has no effect at temperature 0; set a temperature.")

    def _performance(self, suite: Suite) -> None:
        timed: list[tuple[KeyPath, str, int]] = []
        throughput, precision = suite.performance.throughput, suite.performance.precision
        if throughput is not None:
            path: KeyPath = ("performance", "throughput")
            tokens = max(point.prompt_tokens + point.new_tokens for point in throughput.grid())
            grid = {"batch_sizes", "prompt_tokens", "new_tokens"} & throughput.model_fields_set
            if throughput.points and grid:
                self.fault((*path, min(grid)), "give either this or points.")
            named = [((*path, "models", index), name) for index, name in enumerate(throughput.models)]
            everyone = [(path, name) for name, model in suite.models.items() if model.backend != "scripted"]
            timed += [(key, name, tokens) for key, name in named or everyone]
        if precision is not None:
            path = ("performance", "precision")
            timed.append(((*path, "model"), precision.model, precision.prompt_tokens + precision.new_tokens))
            self._precisions(path, precision)
        if suite.performance.roofline and not timed:
            self.fault(("performance", "roofline"), "there is nothing to show in it; time throughput or precision.")
        for key, name, tokens in timed:
            if not self._known(key, name, "models", "model") or name not in suite.models:
                continue
            model = suite.models[name]
            if name in self.unresolved:
                continue
            if model.backend == "scripted":
                self.fault(key, f"'{name}' is scripted and cannot be timed.")
            elif tokens > model.max_seq_length:
                room = model.max_seq_length
                self.fault(key, f"{tokens} tokens in and out are more than the {room} of model '{name}'.")

    def _precisions(self, path: KeyPath, precision: Precision) -> None:
        if precision.points and (precision.dtypes or precision.quantizations):
            key = "dtypes" if precision.dtypes else "quantizations"
            self.fault((*path, key), "give either this or points.")
        for key in ("dtypes", "quantizations", "points"):
            given = getattr(precision, key)
            if len(set(given)) < len(given):
                self.fault((*path, key), "a precision is named twice.")
        if len(precision.grid("none")) < 2:
            key = "points" if precision.points else "dtypes"
            self.fault((*path, key) if key in precision.model_fields_set else path, "needs at least two precisions.")

    def _lm_eval(self, suite: Suite) -> None:
        section = suite.lm_eval
        if section is None:
            return
        folders = []
        for index, name in enumerate(section.task_folders):
            folder = self.base / name
            if is_folder(folder):
                folders.append(folder)
            else:
                key: KeyPath = ("lm_eval", "task_folders", index)
                self.fault(key, f"there is no folder {shown(folder)}.", nearest(folder.name, siblings(folder)))
        if len(folders) == len(section.task_folders):  # else a task may be in the folder that is missing
            for index, task in enumerate(section.tasks):
                places = [*folders, *lm_eval_folders()]
                if not is_known(task, places):
                    problem = f"neither the task folders nor lm-eval have a task '{task}'."
                    self.fault(("lm_eval", "tasks", index), problem, nearest(task, task_names(places)))
        for index, name in enumerate(section.models):
            key = ("lm_eval", "models", index)
            known = self._known(key, name, "models", "model") and name in suite.models and name not in self.unresolved
            if known and suite.models[name].backend == "scripted":
                self.fault(key, f"'{name}' is scripted and cannot be tested by lm-eval.")
