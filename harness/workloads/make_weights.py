"""The job that makes a folder of random weights, or finds it made.

Written shard by shard: host memory stays at one shard, GPU memory at one tensor. Numbers are drawn on the GPU where
there is one; drawing eight billion on a CPU takes minutes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

from harness.adapter_cache import new_entry
from harness.errors import NotAvailable, StoreError, reason_of
from harness.orders import Message, Progress, Records, WorkOrder
from harness.random_weights import (
    MARK,
    RECIPE_FILE,
    STAND_IN_TOKENIZER,
    TOKENIZER_FILES,
    Recipe,
    check_room,
    configuration_files,
    configuration_folder,
    read_recipe,
    weights_lock,
)
from harness.records import Event
from harness.store import saving

SHARD_SIZE = "2GB"
DEFAULT_SPREAD = 0.02
"""Standard deviation of the weights of a configuration that has no initializer_range; most models have this one."""


def make_weights(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Make the order's random weights unless they are there, and say what they are."""
    assert order.weights_folder
    folder = Path(order.weights_folder)
    with weights_lock(folder):
        recipe = read_recipe(folder)
        found = recipe is not None
        if recipe is None:
            recipe = _make(order, folder, lambda done, total: send(Progress(done=done, total=total, unit="tensors")))
    send(Records(records=tuple(_events(order, recipe, found))))


def _make(order: WorkOrder, folder: Path, progress: Callable[[int, int], None]) -> Recipe:
    started = time.perf_counter()
    device = str(order.job.parameters["made_on"])
    if device == "cuda" and not torch.cuda.is_available():
        raise NotAvailable("weights: random: the weights are to be made on a GPU, but torch sees no CUDA GPU.")
    source = configuration_folder(order.model_place, order.model.revision)
    model = meta_model(source, trust_remote_code=order.model.trust_remote_code)
    parameters: dict[str, torch.Tensor] = dict(model.named_parameters())  # tied ones once, as in a checkpoint
    check_room(folder, sum(one.numel() * one.element_size() for one in parameters.values()))
    with new_entry(folder) as partial:
        stand_in = _write_configuration(source, partial, model.config, order.model.weights_seed)
        spread = float(getattr(model.config.get_text_config(), "initializer_range", DEFAULT_SPREAD))
        _write_weights(partial, parameters, spread, order.model.weights_seed, device, progress)
        recipe = Recipe(
            place=order.model.path,
            seed=order.model.weights_seed,
            made_on="cuda" if device == "cuda" else "cpu",
            stand_in_tokenizer=stand_in,
            parameter_count=sum(one.numel() for one in parameters.values()),
            seconds=time.perf_counter() - started,
            files={file.name: file.stat().st_size for file in sorted(partial.iterdir())},
        )
        (partial / RECIPE_FILE).write_text(recipe.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return recipe


def meta_model(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Return the model of the configuration in `folder` on the meta device: shapes and names, no numbers.

    Its dtype is the configuration's own, bfloat16 where it names none. NotAvailable for what is no causal model.
    """
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
        dtype = config.dtype or torch.bfloat16
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = reason_of(error)
        raise NotAvailable(f"{folder}: no model can be made from its configuration: {reason}") from error


def _write_configuration(source: Path, folder: Path, config: Any, seed: int) -> bool:
    """Copy configuration and tokenizer, marked; return whether tiny-ko's tokenizer had to stand in."""
    stand_in = not any((source / name).is_file() for name in TOKENIZER_FILES)
    with saving(folder):
        for file in configuration_files(source):
            shutil.copyfile(file, folder / file.name)
        if stand_in:
            _borrow_tokenizer(folder, config)
        settings = json.loads((source / "config.json").read_text(encoding="utf-8"))
        settings.pop("quantization_config", None)  # these weights are whole; the suite says how they are quantized
        settings[MARK] = seed
        (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return stand_in


def _borrow_tokenizer(folder: Path, config: Any) -> None:
    """Put tiny-ko's tokenizer into the folder; it must know no more tokens than the model."""
    tokens = len(json.loads((STAND_IN_TOKENIZER / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"])
    text = config.get_text_config()
    if tokens > text.vocab_size:
        raise NotAvailable(
            f"weights: random: the folder has no tokenizer, and the {tokens:,} tokens of tiny-ko's, which would stand "
            f"in, are more than this model's {text.vocab_size:,}.",
            "Put a tokenizer beside the config.json.",
        )
    for name in ("tokenizer.json", "chat_template.jinja"):
        shutil.copyfile(STAND_IN_TOKENIZER / name, folder / name)
    settings = json.loads((STAND_IN_TOKENIZER / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings["model_max_length"] = text.max_position_embeddings
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _write_weights(
    folder: Path,
    parameters: dict[str, torch.Tensor],
    spread: float,
    seed: int,
    device: str,
    progress: Callable[[int, int], None],
) -> None:
    """Write the parameters as transformers would, in shards with an index."""
    generator = torch.Generator(device).manual_seed(seed)
    shards = split_torch_state_dict_into_shards(parameters, max_shard_size=SHARD_SIZE)
    done = 0
    try:
        with saving(folder):
            for file, names in shards.filename_to_tensors.items():
                tensors = {}
                for name in names:
                    tensors[name] = random_tensor(name, parameters[name], spread, generator).cpu()
                    done += 1
                save_file(tensors, folder / file, metadata={"format": "pt"})
                progress(done, len(parameters))
            if shards.is_sharded:
                index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
                (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    except SafetensorError as error:
        raise StoreError(f"{folder}: the random weights could not be written: {error}.") from error


def random_tensor(name: str, like: torch.Tensor, spread: float, generator: torch.Generator) -> torch.Tensor:
    """Return new numbers in the shape and dtype of `like`, on the generator's device.

    As models are initialised: biases 0, the weights of norms (the vectors) 1, all else normal around 0.
    """
    tensor = torch.empty(like.shape, dtype=like.dtype, device=generator.device)
    if name.endswith("bias"):
        return tensor.zero_()
    if like.dim() == 1:
        return tensor.fill_(1)
    return tensor.normal_(0, spread, generator=generator)


def _events(order: WorkOrder, recipe: Recipe, found: bool) -> list[Event]:
    size = sum(recipe.files.values())
    how = "were found made" if found else "were made"
    made = (
        f"{order.job.model}: random weights, {recipe.parameter_count:,} parameters, {size / 1e9:.2f} GB, {how} "
        f"from the configuration of {recipe.place} with seed {recipe.seed} (in {recipe.seconds:.1f} s)."
    )
    data = {"model": order.job.model, "parameters": recipe.parameter_count, "bytes": size}
    events = [Event(job_id=order.job.id, level="info", code="random_weights", message=made, data=data)]
    if recipe.stand_in_tokenizer:
        message = (
            f"{order.job.model}: {recipe.place} has no tokenizer; tiny-ko's stands in, so token counts of texts are "
            "tiny-ko's."
        )
        named = {"model": order.job.model}
        event = Event(job_id=order.job.id, level="info", code="stand_in_tokenizer", message=message, data=named)
        events.append(event)
    return events
