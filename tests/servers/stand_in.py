"""Stands in for `vllm` on a machine that cannot run it: takes its command line and speaks its protocol.

What it does is told by the environment variable STAND_IN, JSON with the keys `die_before_ready`, `never_ready`,
`die_at` (number of the request it dies at, once: it removes the file named in `die_once`), `wait_seconds` (of each
reply) and `ignore_sigterm`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.grading.scripted_server import Scripted, ScriptedServer, Seen, completion


def main() -> None:
    told = json.loads(os.environ.get("STAND_IN", "{}"))
    if told.get("die_before_ready"):
        print("CUDA error: no kernel image", file=sys.stderr)
        sys.exit(3)
    if told.get("ignore_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"])  # a worker, as vLLM has
    port = int(sys.argv[sys.argv.index("--port") + 1])
    known = set(values("--served-model-name")) | {one.split("=")[0] for one in values("--lora-modules")}

    def script(number: int, seen: Seen) -> Scripted:
        once = Path(told.get("die_once", "/nonexistent"))
        if number == told.get("die_at") and once.exists():
            once.unlink()
            print("engine core died", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(told.get("wait_seconds", 0))
        if seen.body["model"] not in known:
            return Scripted('{"message": "The model does not exist."}', status=404)
        count = int(seen.body.get("min_tokens", 1))
        return completion(seen, " ".join([f"{seen.body['model']}의", "답", *["말"] * (count - 2)]), usage=(9, count))

    if not told.get("never_ready"):
        ScriptedServer(script, port)
    signal.pause()


def values(option: str) -> list[str]:
    """Return what follows an option up to the next one."""
    if option not in sys.argv:
        return []
    rest = sys.argv[sys.argv.index(option) + 1 :]
    end = next((number for number, word in enumerate(rest) if word.startswith("--")), len(rest))
    return rest[:end]


if __name__ == "__main__":
    main()
