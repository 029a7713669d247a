"""The command that starts a server for all models of a suite that name it, base and adapters together."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.adapter_cache import ADAPTER_FILES, rope_scaling_of
from harness.errors import NotAvailable
from harness.suite import Model, Server
from harness.vllm_adapters import not_taken, rank_that_holds


@dataclass(frozen=True)
class Hosted:
    """One model of a server: its name in the suite, what it is loaded from, and its adapter's folder or hub name."""

    name: str
    model: Model
    place: str
    adapter_place: str | None


@dataclass(frozen=True)
class ServerCommand:
    """The command line, and the name by which each of the suite's models is then asked for."""

    arguments: tuple[str, ...]
    names: dict[str, str]


def server_command(name: str, settings: Server, hosted: Sequence[Hosted], port: int, folder: Path) -> ServerCommand:
    """Return the command for a server on the loopback's `port`. `folder` is where files for it may be put.

    NotAvailable where the command is not installed, or an adapter is of a kind that the server does not take.
    """
    for one in hosted:
        if one.adapter_place and rope_scaling_of(Path(one.adapter_place)):
            raise NotAvailable(
                f"models.{one.name}: its adapter was trained with scaled RoPE, which a served base does not have.",
                "Use backend: hf for it.",
            )
    executable = _executable(name, settings)
    if settings.kind == "vllm":
        return _vllm(executable, settings, hosted, port)
    return _transformers(executable, settings, hosted, port, folder)


def _executable(name: str, settings: Server) -> str:
    wanted = settings.executable or settings.kind
    beside = Path(sys.executable).with_name(settings.kind)
    if not settings.executable and beside.exists():
        return str(beside)
    if found := shutil.which(wanted):
        return found
    raise NotAvailable(
        f"servers.{name}: there is no command '{wanted}' on this machine.",
        f"Install {settings.kind}, or name the command under servers.{name}.executable.",
    )


def _vllm(executable: str, settings: Server, hosted: Sequence[Hosted], port: int) -> ServerCommand:
    model, place = hosted[0].model, hosted[0].place
    arguments = [executable, "serve", place]
    bases = [one.name for one in hosted if one.adapter_place is None]
    if bases:
        arguments += ["--served-model-name", *bases]
    adapters = {one.name: one.adapter_place for one in hosted if one.adapter_place is not None}
    if adapters:
        for name, adapter_place in adapters.items():
            if what := not_taken(adapter_place):
                raise NotAvailable(f"models.{name}: vLLM takes no adapter with {what}.", "Use backend: hf for it.")
        modules = [f"{name}={adapter_place}" for name, adapter_place in adapters.items()]
        rank = rank_that_holds(adapters.values())
        arguments += ["--enable-lora", "--lora-modules", *modules]
        arguments += ["--max-loras", str(len(adapters)), "--max-lora-rank", str(rank)]
    arguments += ["--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--dtype", model.dtype, "--max-model-len", str(model.max_seq_length)]
    # Without it a model's own generation_config.json would add penalties and top-k to what the suite asks for.
    arguments += ["--generation-config", "vllm"]
    if model.revision:
        arguments += ["--revision", model.revision]
    if model.quantization == "4bit":
        arguments += ["--quantization", "bitsandbytes"]
    if model.trust_remote_code:
        arguments.append("--trust-remote-code")
    return ServerCommand((*arguments, *settings.arguments), {one.name: one.name for one in hosted})


def _transformers(
    executable: str, settings: Server, hosted: Sequence[Hosted], port: int, folder: Path
) -> ServerCommand:
    model = hosted[0].model
    arguments = [executable, "serve", "--host", "127.0.0.1", "--port", str(port)]
    arguments += ["--device", model.device, "--dtype", model.dtype, "--attn-implementation", model.attention]
    arguments += ["--model-timeout", "-1"]  # else a model is unloaded between two jobs
    if model.quantization != "none":
        arguments += ["--quantization", f"bnb-{model.quantization}"]
    if model.trust_remote_code:
        arguments.append("--trust-remote-code")
    names = {one.name: _name_in_transformers(one, folder) for one in hosted}
    return ServerCommand((*arguments, *settings.arguments), names)


def _name_in_transformers(hosted: Hosted, folder: Path) -> str:
    """Return what `transformers serve` is asked for: a folder or hub name, which it loads when first asked.

    It knows no adapters, but loads a folder that holds a base and an adapter as that base with that adapter; such a
    folder is made here, of links.
    """
    place = str(_linked(hosted, folder / hosted.name)) if hosted.adapter_place else hosted.place
    if "@" in place:
        raise NotAvailable(
            f"models.{hosted.name}: transformers serve takes what follows an '@' for a revision: {place}",
            "Use folders without an '@' in their names.",
        )
    return f"{place}@{hosted.model.revision}" if hosted.model.revision else place


def _linked(hosted: Hosted, folder: Path) -> Path:
    adapter = Path(hosted.adapter_place or "")
    if not adapter.is_dir():
        raise NotAvailable(
            f"models.{hosted.name}: transformers serve takes adapters from a local folder only.",
            "Download the adapter and give its folder as path.",
        )
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = {file.name: file for file in Path(hosted.place).iterdir() if file.is_file()}
    files |= {name: adapter / name for name in ADAPTER_FILES}
    for name, file in files.items():
        (folder / name).symlink_to(file.resolve())
    return folder
