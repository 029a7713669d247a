"""Makes the random-weight Llama-3.1-8B that the measurements share, in the folder where the 8B suites look for it.

python -m tests.gpu.weights --results FOLDER        prints the folder of the weights, made or found
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CONFIGURATION = Path(__file__).parents[2] / "suites" / "configs" / "llama31_8b"


def make(results: Path, configuration: Path = CONFIGURATION) -> Path:
    """Make the weights of a configuration on the GPU where there is one, unless they are there; return the folder."""
    import torch

    from harness.orders import WorkOrder
    from harness.random_weights import recipe_hash, weights_folder
    from harness.records import Job
    from harness.suite import Model, Sampling
    from harness.workloads.make_weights import make_weights

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Model(path=str(configuration), weights="random")
    place = str(configuration.resolve())
    digest = recipe_hash(place, None, model.weights_seed, device)
    folder = weights_folder(results.resolve(), place, digest)
    order = WorkOrder(
        job=Job(id="weights", kind="make_weights", model="base", parameters={"made_on": device}),
        model=model,
        model_place=place,
        model_hash=digest,
        weights_folder=str(folder),
        sampling=Sampling(),
        log_file="",
    )
    make_weights(order, lambda message: print(message.model_dump_json(), file=sys.stderr))
    return folder


def main() -> None:
    """Make the weights and print their folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.weights", description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--configuration", type=Path, default=CONFIGURATION)
    arguments = parser.parse_args()
    print(make(arguments.results, arguments.configuration))


if __name__ == "__main__":
    main()
