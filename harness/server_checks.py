"""Checks of a suite's servers and of the models asked through them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.suite import Model, Server, Suite
from harness.suite_paths import locate
from harness.suite_yaml import KeyPath

if TYPE_CHECKING:
    from harness.suite_checks import Checker

_OWN_NAMES = "a server that the harness starts gets names of its own."
_NOT_TAKEN: dict[str, dict[str, str]] = {
    "external": dict.fromkeys(
        ("dtype", "quantization", "attention", "device", "trust_remote_code", "adapter"),
        "it is there already and has its own; `served_name` is all it is told.",
    ),
    "vllm": {
        "attention": "vLLM chooses it by itself.",
        "device": "vLLM takes the GPU that it finds.",
        "served_name": _OWN_NAMES,
    },
    "transformers": {"served_name": _OWN_NAMES},
}
"""Kind of server -> key of its models that it does not take -> why."""
_ONE_FOR_ALL = {
    "external": (),
    "vllm": ("path", "revision", "dtype", "quantization", "trust_remote_code", "max_seq_length"),
    "transformers": ("dtype", "quantization", "attention", "device", "trust_remote_code"),
}
"""Keys that are arguments of the server's command, and so the same for all its models."""


class ServerChecks:
    """Notes the faults of one suite's servers through the checker of the whole suite."""

    def __init__(self, checker: Checker, suite: Suite) -> None:
        self.checker = checker
        self.suite = suite

    def check(self) -> None:
        """Check the servers, and what the suite wants of served models that no server can give."""
        for name, server in self.suite.servers.items():
            self._server(("servers", name), server)
        for name in self.suite.servers:
            self._models_of(name)
        self._studies()

    def model(self, name: str, model: Model) -> None:
        """Check one model with backend openai_http."""
        path: KeyPath = ("models", name)
        server = self._server_of(path, model)
        if model.script is not None or model.weights == "random":
            key = "script" if model.script is not None else "weights"
            self.checker.fault((*path, key), "a model behind a server has no such key.")
        if server is None:
            return
        for key, reason in _NOT_TAKEN[server.kind].items():
            if (*path, key) in self.checker.document.places:
                self.checker.fault((*path, key), f"a server of kind '{server.kind}' does not take it: {reason}")
        if server.kind == "external" and model.served_name is None:
            self.checker.fault((*path, "served_name"), "needs the name by which the external server knows the model.")
        self._place(path, model, server)

    def not_served(self, name: str, model: Model) -> None:
        """Check that a model without a server names none."""
        for key in ("server", "served_name"):
            path: KeyPath = ("models", name, key)
            if getattr(model, key) is not None and path in self.checker.document.places:
                self.checker.fault(path, "only a model with backend 'openai_http' has this.")

    def _server(self, path: KeyPath, server: Server) -> None:
        if server.kind == "external":
            if server.endpoint is None:
                self.checker.fault((*path, "endpoint"), "an external server needs its base URL here.")
            for key in ("executable", "arguments"):
                if getattr(server, key):
                    self.checker.fault((*path, key), "only a server that the harness starts has this.")
            return
        for key in ("endpoint", "api_key_env"):
            if getattr(server, key) is not None:
                self.checker.fault((*path, key), "only an external server has this; the harness chooses a free port.")

    def _server_of(self, path: KeyPath, model: Model) -> Server | None:
        if model.server is None:
            self.checker.fault((*path, "server"), "a model with backend 'openai_http' needs the name of a server here.")
        elif self.checker._known((*path, "server"), model.server, "servers", "server"):
            return self.suite.servers.get(model.server)
        return None

    def _place(self, path: KeyPath, model: Model, server: Server) -> None:
        """Check where the weights are: needed to start a server, only for the model's identity otherwise."""
        if self.checker._inherited((*path, "path"), model):
            pass  # checked where it is given
        elif not model.path:
            if server.is_child:
                self.checker.fault((*path, "path"), "the model needs a local folder or a hub name.")
            return
        elif self.checker._folder_or_hub((*path, "path"), model.path, "config.json") and model.revision is not None:
            self.checker.fault((*path, "revision"), "a local folder has no revision.")
        if model.adapter is None or not server.is_child:
            return
        self.checker._adapter(self.suite, (*path, "adapter"), model, model.adapter)
        if model.adapter.mode == "merged":
            self.checker.fault((*path, "adapter", "mode"), "a server keeps adapters attached; merging is for hf.")
        if server.kind == "transformers" and locate(self.checker.base, model.path) is None:
            self.checker.fault((*path, "adapter"), "transformers serve takes one on a base in a local folder only.")

    def _models_of(self, server: str) -> None:
        """Check that the models of one server can be had from one process, each by a name of its own."""
        settings = self.suite.servers[server]
        models = {
            name: model
            for name, model in self.suite.models.items()
            if model.server == server and model.backend == "openai_http" and name not in self.checker.unresolved
        }
        first_name = next(iter(models), "")
        for name, model in models.items():
            for key in _ONE_FOR_ALL[settings.kind]:
                if getattr(model, key) != getattr(models[first_name], key):
                    problem = f"differs from '{first_name}', but one server serves both; give them a server each."
                    self.checker.fault(("models", name, key), problem)
            if settings.kind == "vllm" and model.quantization == "8bit":
                self.checker.fault(("models", name, "quantization"), "vLLM quantizes to 4bit only when it loads.")
            twins = [other for other, one in models.items() if one.served_name == model.served_name and one.served_name]
            if twins and twins[0] != name:
                problem = f"is '{model.served_name}' as for '{twins[0]}': the same model would answer for both."
                self.checker.fault(("models", name, "served_name"), problem)

    def _studies(self) -> None:
        served = [name for name, model in self.suite.models.items() if model.backend == "openai_http"]
        section, performance = self.suite.lm_eval, self.suite.performance
        if section is not None:
            for name in (name for name in section.models or served if name in served):
                self.checker.fault(
                    ("lm_eval", "models"),
                    f"'{name}' is served, and a server does not give the probabilities of given text that lm-eval "
                    "needs; name the models to test here.",
                )
        if performance.precision is not None and performance.precision.model in served:
            problem = f"'{performance.precision.model}' is served; its precision is the server's, and cannot be varied."
            self.checker.fault(("performance", "precision", "model"), problem)
        timed = (performance.throughput.models or tuple(self.suite.models)) if performance.throughput else ()
        if performance.roofline and (unseen := [name for name in timed if name in served]):
            problem = f"'{unseen[0]}' is served, and its work cannot be counted; name the others in throughput.models."
            self.checker.fault(("performance", "roofline"), problem)
        for name, training in self.suite.training.items():
            model = self.suite.models.get(training.model)
            server = self.suite.servers.get(model.server or "") if model is not None else None
            if training.model in served and server is not None and not server.is_child:
                problem = f"'{training.model}' is behind an external server; name a model that is loaded here."
                self.checker.fault(("training", name, "model"), problem)
