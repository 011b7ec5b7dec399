"""Reports of a running stage: a progress bar, TensorBoard, preview images, or JSON lines."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from stspbr.kernel_cache import CompileClock
from stspbr.optimize.whole_progress import WholeProgress, rest

if TYPE_CHECKING:
    from rich.console import Console


class Pace(Protocol):
    """How many steps a stage has, and between how many it is logged."""

    @property
    def iterations(self) -> int: ...

    @property
    def log_every(self) -> int: ...


class Reporting(Protocol):
    """The interface of a reporter of a stage's progress; see :class:`Reporter`."""

    def expect(self, total_steps: int) -> None:
        """The stage will have so many steps, as far as it is known by now."""

    def step(
        self, step: int, losses: Mapping[str, Any], rates: Mapping[str, float], seconds: Mapping[str, float]
    ) -> None:
        """Report a step."""

    def image(self, tag: str, array: Any, step: int) -> object:
        """Keep a picture ``[H, W, 3]`` in [0, 1]."""

    def message(self, text: str) -> None:
        """Print one line."""

    def summary(self, lines: Iterable[str]) -> None:
        """Print the closing lines."""


class Reporter:
    """Reports the steps of one stage. Use it as a context manager.

    On a terminal it shows a bar with the losses, seconds per step and time left; elsewhere it prints a line about every
    tenth of the stage. Both leave out the time in which Numba compiles kernels, which is announced. Scalars and images
    also go to TensorBoard and PNG files under ``out_dir``, outside the artifact: logs never change an artifact.

    Args:
        stage: name on screen and in JSON.
        total_steps: steps of the whole stage, including those before a resume.
        out_dir: e.g. ``RUN/logs/coarse``; created when first written to.
        quiet: print nothing; errors are exceptions.
        json_lines: print one JSON object per logged step on stdout and nothing else (even if ``quiet``).
        log_every: steps between records; only then tensors are read, which waits for a GPU.
        console: for the bar and the messages; stdout by default.
        beside: writes more into the folder of the preview pictures, after each; its second argument is the step.
        whole: the pipeline that the stage is a part of, which is told and shown; None: it stands alone.
    """

    def __init__(
        self,
        stage: str,
        total_steps: int,
        out_dir: str | Path,
        quiet: bool = False,
        json_lines: bool = False,
        log_every: int = 10,
        console: Console | None = None,
        beside: Callable[[Path, int], None] | None = None,
        whole: WholeProgress | None = None,
    ) -> None:
        self.stage = stage
        self.total_steps = total_steps
        self.out_dir = Path(out_dir)
        self.json_lines = json_lines
        self.prints = not quiet and not json_lines
        self.log_every = max(1, log_every)
        self._beside, self._whole = beside, whole
        self._steps_before: int | None = None  # steps done before the first reported one: > 0 after a resume
        self._console = console
        self._bar: Any = None
        self._task: Any = None
        self._whole_task: Any = None
        self._writer: Any = None
        self._writer_failed = False
        self._printed_tenth = -1
        self._parts: dict[str, float] = {}
        self._steps_since_log = 0
        self._compiled = 0
        self._measured_from = math.nan, total_steps  # when, and after which step: nothing is known yet
        self._compiling = CompileClock(lambda: self.message("compiling kernels (once per machine) …"))
        self._started = self._last_log = self._now()

    def __enter__(self) -> Reporter:
        self._compiling.__enter__()
        self._started = self._last_log = self._now()
        if self.prints:
            from rich.console import Console

            self._console = self._console or Console()
            if self._console.is_terminal:
                self._start_bar()
        return self

    def __exit__(self, *_: object) -> None:
        self._compiling.__exit__()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def expect(self, total_steps: int) -> None:
        """The stage will have so many steps, as far as it is known by now: bar, time left and JSON follow."""
        self.total_steps = total_steps
        if self._bar is not None:
            self._bar.update(self._task, total=total_steps)

    def step(
        self, step: int, losses: Mapping[str, Any], rates: Mapping[str, float], seconds: Mapping[str, float]
    ) -> None:
        """Report a step.

        Args:
            step: number of finished steps of the stage: 1 after the first, ``total_steps`` after the last.
            losses: value by term, floats or scalar tensors on any device.
            rates: learning rate by parameter group.
            seconds: time of this step by part, e.g. ``{"render": 0.2, "backward": 0.3}``; the mean since the last
                record is logged. The part ``step`` is the whole; by default it is taken from the wall clock.
        """
        if self._steps_before is None:
            self._steps_before = step - 1
        for part, value in seconds.items():
            self._parts[part] = self._parts.get(part, 0.0) + value
        self._steps_since_log += 1
        if self._compiling.count != self._compiled:  # the first steps that load kernels are no measure of the others
            self._compiled = self._compiling.count
            self._measured_from = self._now(), step
        if self._whole is not None:
            self._whole.at(step / max(self.total_steps, 1))
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
            if self._whole is not None:
                self._bar.update(self._whole_task, completed=round(100 * self._whole.share), left=self._whole.text())
        if not (step - 1 == self._steps_before or step % self.log_every == 0 or step == self.total_steps):
            return
        now = self._now()
        means = {part: total / self._steps_since_log for part, total in self._parts.items()}
        if "step" in means:
            means["step"] = max(0.0, means["step"] - self._compiling.taken() / self._steps_since_log)
        means.setdefault("step", (now - self._last_log) / self._steps_since_log)
        self._last_log, self._steps_since_log, self._parts = now, 0, {}
        since, first = self._measured_from if self._measured_from[1] < step else (self._started, self._steps_before)
        left = (now - since) / (step - first) * (self.total_steps - step)
        values = {name: float(value) for name, value in losses.items()}

        self.scalars("loss", values, step)
        self.scalars("learning rate", rates, step)
        self.scalars("seconds per step", means, step)
        if self.json_lines:
            record: dict[str, Any] = {"stage": self.stage, "step": step, "total_steps": self.total_steps}
            record |= {"losses": _finite(values), "rates": _finite(rates), "seconds": _finite(means)}
            sys.stdout.write(json.dumps(record | {"seconds_left": round(left, 3)}, allow_nan=False) + "\n")
            sys.stdout.flush()
        elif self._bar is not None:
            self._bar.update(self._task, losses=_loss_text(values), pace=f"{means['step']:.3f} s/step", left=rest(left))
        elif self.prints:
            self._print_tenth(step, values, means["step"], left)

    def image(self, tag: str, array: Any, step: int) -> Path:
        """Write an image to ``out_dir/previews`` and TensorBoard.

        Args:
            tag: e.g. ``"validation/3"``.
            array: [H,W,3] or [H,W] display-encoded values in [0, 1], an array or a tensor; clipped, NaN becomes black.

        Returns:
            The PNG's path.
        """
        from PIL import Image

        if hasattr(array, "detach"):
            array = array.detach().cpu().numpy()
        pixels = np.nan_to_num(np.asarray(array, dtype=np.float32), nan=0.0, posinf=1.0, neginf=0.0)
        pixels = np.round(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
        folder = self.out_dir / "previews"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', tag)}_{step:06d}.png"
        Image.fromarray(pixels).save(path)
        writer = self._tensorboard()
        if writer is not None:
            writer.add_image(tag, pixels, step, dataformats="HWC" if pixels.ndim == 3 else "HW")
        if self._beside is not None:
            self._beside(folder, step)
        return path

    def scalars(self, group: str, values: Mapping[str, Any], step: int) -> None:
        """Write ``values`` to TensorBoard as ``group/name``, e.g. PSNR of a validation view."""
        writer = self._tensorboard() if values else None
        if writer is not None:
            for name, value in values.items():
                writer.add_scalar(f"{group}/{name}", float(value), step)

    def message(self, text: str) -> None:
        """Print one line, above the bar."""
        if self.prints and self._console is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def summary(self, lines: Iterable[str]) -> None:
        """End the bar and print the stage's closing lines."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        for line in lines:
            self.message(line)

    def _start_bar(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[losses]}", markup=False),
            console=self._console,
            refresh_per_second=2,
        )
        self._task = self._bar.add_task(self.stage, total=self.total_steps, losses="", pace="", left="")
        if self._whole is not None:
            text = self._whole.text()
            self._whole_task = self._bar.add_task("all stages", total=100, losses="", pace="", left=text)
        self._bar.start()

    def _now(self) -> float:
        """Seconds of a clock that stands still while kernels are compiled."""
        return time.monotonic() - self._compiling.seconds

    def _print_tenth(self, step: int, values: Mapping[str, float], pace: float, left: float) -> None:
        tenth = 10 * step // self.total_steps
        if tenth == self._printed_tenth:
            return
        self._printed_tenth = tenth
        percent = 100 * step // self.total_steps
        left_text = rest(left) if step < self.total_steps else "done"
        head = f"{self.stage} {step}/{self.total_steps} ({percent} %)"
        whole = "" if self._whole is None else f"  [{self._whole.text()}]"
        self.message(f"{head}  {pace:.3f} s/step  {left_text}  {_loss_text(values)}".rstrip() + whole)

    def _tensorboard(self) -> Any:
        """The writer, created at first use: the import alone takes a second. None if TensorBoard cannot be imported."""
        if self._writer is None and not self._writer_failed:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                self._writer_failed = True
                self.message(f"no TensorBoard records ({error}): pip install --upgrade tensorboard")
                return None
            # after a resume, hide the steps that the killed run logged beyond its checkpoint
            purge = self._steps_before + 1 if self._steps_before else None
            self._writer = SummaryWriter(str(self.out_dir), purge_step=purge, flush_secs=20)
        return self._writer


class SilentReporter:
    """The reporter of all ranks but the first: it prints, writes and reads nothing."""

    def expect(self, total_steps: int) -> None: ...

    def step(self, *_: object) -> None: ...

    def image(self, *_: object) -> None: ...

    def scalars(self, *_: object) -> None: ...

    def message(self, text: str) -> None: ...

    def summary(self, lines: Iterable[str]) -> None: ...


def _loss_text(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def _finite(values: Mapping[str, Any]) -> dict[str, float | None]:
    """``values`` for JSON, which has no NaN and no infinity: they become null."""
    numbers = {name: float(value) for name, value in values.items()}
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}
