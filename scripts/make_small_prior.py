"""Make the small prior that the package ships: train it from its seed, and copy it into the package.

python scripts/make_small_prior.py RUN [--steps 2400,900] [--threads N]

It may be stopped and started again: it goes on where it was. The result depends on seed, steps and thread count alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import stspbr

stspbr.prepare_process()

from stspbr.settings import PriorTrainSettings  # noqa: E402
from stspbr.stages.prior import run_prior_train  # noqa: E402

SEED = 0
TARGET = Path(__file__).resolve().parents[1] / "stspbr" / "priors" / "small.safetensors"
MOST_BYTES = 8_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--steps", default="2400,900")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    settings = PriorTrainSettings(steps=[int(part) for part in given.steps.split(",")], checkpoint_every=25)
    session = stspbr.Session.open(given.run, seed=SEED, threads=given.threads, resume=True)
    found = session.store.find("prior", settings.model_dump(mode="json"), [], SEED) or run_prior_train(
        session, settings
    )
    source = found.file("prior.safetensors")
    if source.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{source}: {source.stat().st_size} bytes are too many to ship")
    shutil.copyfile(source, TARGET)
    print(json.dumps(json.loads(found.file("metrics.json").read_text()), indent=1))
    print(f"{TARGET}: {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
