"""What each of the two processes of test_torchrun.py does: ``two_processes.py FOLDER FEW MORE``.

The environment is torchrun's; FEW and MORE are settings of coarse, as JSON lists of overrides.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from stspbr import torchrun
from stspbr.threads import prepare_process

prepare_process()

import torch  # noqa: E402

from stspbr import cli  # noqa: E402
from stspbr.errors import StspbrError  # noqa: E402
from stspbr.optimize.progress import SilentReporter  # noqa: E402
from stspbr.optimize.reconstruction import Reconstruction  # noqa: E402
from stspbr.settings import CoarseSettings, settings_for  # noqa: E402
from stspbr.stages.coarse import run_coarse  # noqa: E402
from stspbr.stages.session import Session  # noqa: E402

SECOND = torchrun.place().rank == 1


def coarse(run: Path, overrides: list[str], resume: bool = False) -> str:
    """The artifact's content hash: of both ranks, though one of them wrote it."""
    session = Session.open(run, device="cpu", threads=1, quiet=True, resume=resume)
    with session.ranks.together():
        return run_coarse(session, settings_for(CoarseSettings, overrides)).content_hash


def exchanges(folder: Path) -> dict:
    """One of each, where the ranks hold different things: gradients on one alone, on both, on none."""
    ranks = Session.open(folder, device="cpu", threads=1, quiet=True).ranks
    one, both, none = (torch.zeros(size, requires_grad=True) for size in ((3,), (2, 2), (1,)))
    one.grad = None if SECOND else torch.tensor([1.0, 2.0, 3.0])
    both.grad = torch.full((2, 2), 2.0 if SECOND else 1.0)
    ranks.sum_gradients([one, both, none])
    state = {"x": {"number": torch.tensor(ranks.rank), "flags": torch.tensor([SECOND, True]), "empty": torch.zeros(0)}}
    ranks.copy_from_first(state)
    values = {"a": torch.tensor(1.0), **({"b": torch.tensor(2.0)} if SECOND else {})}
    return {
        "gradients": [one.grad.tolist(), both.grad.tolist(), none.grad],
        "state": [state["x"]["number"].item(), state["x"]["flags"].tolist()],
        "values": ranks.sum_values(values),
        "first": ranks.first(lambda: ranks.first(lambda: ranks.rank)),
        "gathered": ranks.gather(float(ranks.rank), 7.0),
    }


def interrupt_the_second(run: Path, overrides: list[str]) -> None:
    """Ctrl-C reaches one rank alone, at step 7."""

    def step(self, done: int, *_: object) -> None:
        if done == 7:
            os.kill(os.getpid(), signal.SIGINT)

    before, SilentReporter.step = SilentReporter.step, step
    try:
        coarse(run, overrides)
    except KeyboardInterrupt:
        return
    finally:
        SilentReporter.step = before
    raise AssertionError("it was not interrupted")


def fail_in_the_second(run: Path, overrides: list[str]) -> None:
    """The command line, where one rank alone meets an error at its fourth step."""
    terms = Reconstruction.terms

    def failing(self, step, *rest):
        if step == 3 and SECOND:
            raise StspbrError("made to fail")
        return terms(self, step, *rest)

    Reconstruction.terms = failing
    options = [word for override in overrides for word in ("--set", override)]
    sys.argv = ["stspbr", "coarse", str(run), "--device", "cpu", "--threads", "1", "--quiet", *options]
    cli.main()


def main(folder: Path, few: list[str], more: list[str]) -> None:
    (folder / f"exchanges{torchrun.place().rank}").write_text(json.dumps(exchanges(folder / "few")))
    hashes = [coarse(folder / "few", few), coarse(folder / "whole", more)]
    interrupt_the_second(folder / "stopped", more)
    hashes.append(coarse(folder / "stopped", more, resume=True))
    (folder / f"hashes{torchrun.place().rank}").write_text("\n".join(hashes))
    fail_in_the_second(folder / "failed", more)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3]))
