"""Model servers that the run starts on this machine for the jobs that need them, and always stops again.

One server runs at a time, and only while jobs that ask it follow each other: a timing of another model never shares
the machine with an idle server, and a server that takes most of a GPU's memory leaves it to what comes next.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from harness.dispatch import Dispatcher
from harness.errors import HarnessError, JobFailed, NotAvailable, RunInterrupted
from harness.orders import WorkOrder
from harness.servers.child import ChildServer, free_port
from harness.servers.commands import Hosted, server_command
from harness.suite_file import LoadedSuite


class ChildServers:
    """Starts a server when the first job that asks it is about to begin. Use as a context manager."""

    def __init__(self, dispatcher: Dispatcher, run_folder: Path, note: Callable[[str], None]) -> None:
        self._dispatcher = dispatcher
        self._folder = run_folder.resolve() / "servers"
        self._note = note
        self._running: ChildServer | None = None

    def __enter__(self) -> ChildServers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server. Where a job failed because the server had died, JobFailed says so, with its last lines."""
        running, self._running = self._running, None
        if running is None:
            return
        died = isinstance(error, JobFailed | NotAvailable) and running.has_died()
        running.stop()
        if died:
            raise _obituary(running) from error

    def ready(self, order: WorkOrder) -> WorkOrder:
        """Return the order with the place and name to ask, its server running; a server it does not need is stopped.

        NotAvailable where the server cannot be started, JobFailed where it ended, RunInterrupted on Ctrl-C.
        """
        served = order.served if order.served and order.served.settings.is_child else None
        wanted = served.server if served else None
        if self._running and self._running.name != wanted:
            self._running.stop()
            self._running = None
        if served is None:
            return order
        if self._running is None:
            self._start(served.server)
        assert self._running
        if self._running.has_died():
            raise _obituary(self._running)
        asked = served.model_copy(
            update={"endpoint": self._running.endpoint, "name": self._running.names[order.job.model]}
        )
        return order.model_copy(update={"served": asked})

    def _start(self, name: str) -> None:
        suite = self._dispatcher.loaded.suite
        hosted = [
            self._hosted(model)
            for model, settings in suite.models.items()
            if settings.backend == "openai_http" and settings.server == name
        ]
        settings, port = suite.servers[name], free_port()
        if settings.executable and "/" in settings.executable:
            settings = settings.model_copy(
                update={"executable": str(self._dispatcher.loaded.resolve(settings.executable))}
            )
        command = server_command(name, settings, hosted, port, self._folder / name)
        self._running = ChildServer(name, settings, command, port, self._folder / f"{name}.log")
        self._note(f"Starting server '{name}' ({settings.kind} serve); its log is {self._running.log_file}.")
        try:
            self._running.start()
        except KeyboardInterrupt as error:
            sentence = f"Stopped while server '{name}' was starting."
            raise RunInterrupted(sentence, "The same command goes on from here.") from error

    def _hosted(self, model: str) -> Hosted:
        loaded = self._dispatcher.loaded
        settings = loaded.suite.models[model]
        return Hosted(model, settings, loaded.locate(settings.path), self._dispatcher.adapter(model)[0])


def refuse_elsewhere(loaded: LoadedSuite, where: str) -> None:
    """Raise NotAvailable for a suite whose servers are this machine's children, where jobs run on other machines."""
    for name, server in loaded.suite.servers.items():
        if server.is_child:
            raise NotAvailable(
                f"servers.{name}: a server that the harness starts is asked on this machine only, not from {where}.",
                "Use --executor local, or start the server yourself and give it as kind: external.",
            )


def _obituary(server: ChildServer) -> HarnessError:
    return JobFailed(
        f"Server '{server.name}' ({server.settings.kind} serve) ended in mid-run: {server.last_lines()}",
        f"Its whole log is {server.log_file}. What was finished is kept; the same command goes on from here.",
    )
