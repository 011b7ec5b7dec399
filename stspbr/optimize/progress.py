"""What a stage tells people while it runs: a progress bar, TensorBoard, preview images, or JSON lines."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from rich.console import Console


class Reporting(Protocol):
    """What hears of a stage's progress; see :class:`Reporter`."""

    def step(
        self, step: int, losses: Mapping[str, Any], rates: Mapping[str, float], seconds: Mapping[str, float]
    ) -> None:
        """A step is done."""

    def image(self, tag: str, array: Any, step: int) -> object:
        """A picture ``[H, W, 3]`` in [0, 1] is to be kept."""

    def message(self, text: str) -> None:
        """One line for people."""

    def summary(self, lines: Iterable[str]) -> None:
        """What was written."""


class Reporter:
    """Reports the steps of one stage. Use it as a context manager.

    On a terminal there is a bar with the losses, seconds per step and time left; elsewhere a plain line about every
    tenth of the stage. Scalars and images also go to TensorBoard and PNG files under ``out_dir``, which lies outside
    of the artifact: what is logged never changes an artifact.

    Args:
        stage: name shown and used in JSON.
        total_steps: steps of the whole stage, those before a resume included.
        out_dir: e.g. ``RUN/logs/coarse``; made when first written to.
        quiet: print nothing; errors come as exceptions.
        json_lines: print one JSON object per logged step on stdout and nothing else (also when ``quiet``).
        log_every: steps between records; tensors are read, which waits for a GPU, only then.
        console: where people read; stdout by default.
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
    ) -> None:
        self.stage = stage
        self.total_steps = total_steps
        self.out_dir = Path(out_dir)
        self.json_lines = json_lines
        self.speaks = not quiet and not json_lines
        self.log_every = max(1, log_every)
        self._steps_before: int | None = None  # steps done before the first that is reported: > 0 after a resume
        self._console = console
        self._bar: Any = None
        self._task: Any = None
        self._writer: Any = None
        self._writer_failed = False
        self._printed_tenth = -1
        self._parts: dict[str, float] = {}
        self._steps_since_log = 0
        self._started = self._last_log = time.monotonic()

    def __enter__(self) -> Reporter:
        self._started = self._last_log = time.monotonic()
        if self.speaks:
            from rich.console import Console

            self._console = self._console or Console()
            if self._console.is_terminal:
                self._start_bar()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def step(
        self,
        step: int,
        losses: Mapping[str, Any],
        rates: Mapping[str, float],
        seconds: Mapping[str, float],
    ) -> None:
        """Report a step.

        Args:
            step: how many steps of the stage are done now: 1 after the first, ``total_steps`` after the last.
            losses: value by term, floats or scalar tensors on any device.
            rates: learning rate by parameter group.
            seconds: time of this step by part, e.g. ``{"render": 0.2, "backward": 0.3}``; the mean since the last
                record is what is logged. The part ``step`` is the whole; the wall clock gives it where it is left out.
        """
        if self._steps_before is None:
            self._steps_before = step - 1
        for part, value in seconds.items():
            self._parts[part] = self._parts.get(part, 0.0) + value
        self._steps_since_log += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
        if not self._log_due(step):
            return
        now = time.monotonic()
        means = {part: total / self._steps_since_log for part, total in self._parts.items()}
        means.setdefault("step", (now - self._last_log) / self._steps_since_log)
        self._last_log, self._steps_since_log, self._parts = now, 0, {}
        left = (now - self._started) / (step - self._steps_before) * (self.total_steps - step)
        values = {name: float(value) for name, value in losses.items()}

        self.scalars("loss", values, step)
        self.scalars("learning rate", rates, step)
        self.scalars("seconds per step", means, step)
        if self.json_lines:
            self._write_json(step, values, rates, means, left)
        elif self._bar is not None:
            self._bar.update(self._task, losses=_loss_text(values), pace=f"{means['step']:.3f} s/step")
        elif self.speaks:
            self._print_tenth(step, values, means["step"], left)

    def image(self, tag: str, array: Any, step: int) -> Path:
        """Write an image to ``out_dir/previews`` and TensorBoard.

        Args:
            tag: e.g. ``"validation/3"``.
            array: [H,W,3] or [H,W] display-encoded values in [0, 1], an array or a tensor; clipped, NaN is black.

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
        return path

    def scalars(self, group: str, values: Mapping[str, Any], step: int) -> None:
        """Write ``values`` to TensorBoard as ``group/name``, e.g. PSNR of a validation view."""
        writer = self._tensorboard() if values else None
        if writer is not None:
            for name, value in values.items():
                writer.add_scalar(f"{group}/{name}", float(value), step)

    def message(self, text: str) -> None:
        """Print one line for people, above the bar."""
        if self.speaks and self._console is not None:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def summary(self, lines: Iterable[str]) -> None:
        """Print the stage's closing lines; ends the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        for line in lines:
            self.message(line)

    def _start_bar(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[losses]}", markup=False),
            console=self._console,
            refresh_per_second=2,
            speed_estimate_period=60,
        )
        self._task = self._bar.add_task(self.stage, total=self.total_steps, losses="", pace="")
        self._bar.start()

    def _log_due(self, step: int) -> bool:
        first = step - 1 == self._steps_before
        return first or step % self.log_every == 0 or step == self.total_steps

    def _print_tenth(self, step: int, values: Mapping[str, float], pace: float, left: float) -> None:
        tenth = 10 * step // self.total_steps
        if tenth == self._printed_tenth:
            return
        self._printed_tenth = tenth
        percent = 100 * step // self.total_steps
        rest = f"{_duration(left)} left" if step < self.total_steps else "done"
        head = f"{self.stage} {step}/{self.total_steps} ({percent} %)"
        self.message(f"{head}  {pace:.3f} s/step  {rest}  {_loss_text(values)}".rstrip())

    def _write_json(
        self,
        step: int,
        values: Mapping[str, float],
        rates: Mapping[str, float],
        seconds: Mapping[str, float],
        left: float,
    ) -> None:
        record = {
            "stage": self.stage,
            "step": step,
            "total_steps": self.total_steps,
            "losses": _finite(values),
            "rates": _finite(rates),
            "seconds": _finite(seconds),
            "seconds_left": round(left, 3),
        }
        sys.stdout.write(json.dumps(record, allow_nan=False) + "\n")
        sys.stdout.flush()

    def _tensorboard(self) -> Any:
        """The writer, made at first use: the import alone takes a second. None where TensorBoard cannot be imported."""
        if self._writer is None and not self._writer_failed:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                self._writer_failed = True
                self.message(f"no TensorBoard records ({error}): pip install --upgrade tensorboard")
                return None
            # After a resume the steps that the killed run had logged beyond its checkpoint are hidden.
            purge = self._steps_before + 1 if self._steps_before else None
            self._writer = SummaryWriter(str(self.out_dir), purge_step=purge, flush_secs=20)
        return self._writer


class SilentReporter:
    """What the ranks other than the first report to: it prints, writes and reads nothing."""

    def step(self, *_: object) -> None: ...

    def image(self, *_: object) -> None: ...

    def scalars(self, *_: object) -> None: ...

    def message(self, text: str) -> None: ...

    def summary(self, lines: Iterable[str]) -> None: ...


def _loss_text(values: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in values.items())


def _finite(values: Mapping[str, Any]) -> dict[str, float | None]:
    """JSON has no NaN and no infinity: they become null."""
    numbers = {name: float(value) for name, value in values.items()}
    return {name: number if math.isfinite(number) else None for name, number in numbers.items()}


def _duration(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
