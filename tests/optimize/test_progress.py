from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from stspbr.optimize.progress import Reporter


class CountingLoss:
    """A loss value that counts how often it is read; on a GPU each reading waits for the device."""

    def __init__(self, value: float) -> None:
        self.value, self.reads = value, 0

    def __float__(self) -> float:
        self.reads += 1
        return self.value


def plain_console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=200)


def run(reporter: Reporter, total: int, loss: object = 0.25, start: int = 0) -> None:
    with reporter:
        for done in range(start + 1, total + 1):
            reporter.step(done, {"logl1": loss}, {"light": 0.01}, {"render": 0.2, "step": 0.5})
        reporter.summary(["finished well"])


def read_scalars(folder) -> dict[str, list[tuple[int, float]]]:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_without_a_terminal_a_line_comes_about_every_tenth(tmp_path):
    console = plain_console()
    run(Reporter("coarse", 200, tmp_path, console=console, log_every=5), 200, torch.tensor(0.25))
    lines = console.file.getvalue().splitlines()
    assert 10 <= len(lines) - 1 <= 11
    assert lines[-2].startswith("coarse 200/200 (100 %)  0.500 s/step  done  logl1 0.25")
    assert "left" in lines[3]
    assert lines[-1] == "finished well"


def test_on_a_terminal_there_is_a_bar(tmp_path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    run(Reporter("coarse", 20, tmp_path, console=console), 20)
    text = console.file.getvalue()
    assert "20/20" in text and "logl1 0.25" in text and "finished well" in text


def test_quiet_prints_nothing(tmp_path, capsys):
    reporter = Reporter("coarse", 20, tmp_path, quiet=True)
    reporter.message("hello")
    run(reporter, 20)
    reporter.message("hello")
    assert capsys.readouterr() == ("", "")


def test_json_prints_one_line_per_logged_step_and_nothing_else(tmp_path, capsys):
    reporter = Reporter("coarse", 25, tmp_path, json_lines=True, quiet=True, log_every=10)
    run(reporter, 25, float("nan"))
    out, err = capsys.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert err == ""
    assert [record["step"] for record in records] == [1, 10, 20, 25]
    assert records[1]["stage"] == "coarse" and records[1]["total_steps"] == 25
    assert records[1]["losses"] == {"logl1": None}  # JSON has no NaN
    assert records[1]["rates"] == {"light": 0.01}
    assert records[1]["seconds"] == pytest.approx({"render": 0.2, "step": 0.5})
    assert records[-1]["seconds_left"] == 0


def test_losses_are_read_only_when_they_are_logged(tmp_path):
    loss = CountingLoss(0.5)
    run(Reporter("coarse", 100, tmp_path, quiet=True, log_every=25), 100, loss)
    assert loss.reads == 5  # the first step and each 25th


def test_seconds_are_means_since_the_last_record(tmp_path, capsys):
    with Reporter("bake", 4, tmp_path, json_lines=True, log_every=3) as reporter:
        for done, seconds in enumerate([1.0, 2.0, 4.0, 8.0], start=1):
            reporter.step(done, {}, {}, {"render": seconds})
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["seconds"]["render"] for record in records] == [1.0, 3.0, 8.0]
    assert all(0 <= record["seconds"]["step"] < 10 for record in records)  # by the wall clock


def test_tensorboard_has_losses_rates_and_seconds(tmp_path):
    reporter = Reporter("coarse", 20, tmp_path / "logs", quiet=True)
    with reporter:
        for done in range(1, 21):
            reporter.step(done, {"logl1": torch.tensor(1.0 / done)}, {"light": 0.01}, {"render": 0.2})
        reporter.scalars("validation", {"psnr": 30.0}, 20)
    scalars = read_scalars(tmp_path / "logs")
    assert [step for step, _ in scalars["loss/logl1"]] == [1, 10, 20]
    assert [value for _, value in scalars["loss/logl1"]] == pytest.approx([1.0, 0.1, 0.05])
    assert scalars["learning rate/light"][-1] == pytest.approx((20, 0.01))
    assert scalars["seconds per step/render"][-1] == pytest.approx((20, 0.2))
    assert scalars["validation/psnr"] == [(20, 30.0)]


def test_after_a_resume_the_records_go_on_where_the_checkpoint_was(tmp_path):
    run(Reporter("coarse", 40, tmp_path, quiet=True), 30, 1.0)  # killed at 30, the checkpoint was at 20
    run(Reporter("coarse", 40, tmp_path, quiet=True), 40, 2.0, start=20)
    assert read_scalars(tmp_path)["loss/logl1"] == [(1, 1.0), (10, 1.0), (20, 1.0), (21, 2.0), (30, 2.0), (40, 2.0)]


def test_images_are_written_as_png_and_to_tensorboard(tmp_path):
    picture = torch.tensor([[[0.0, 0.5, 1.0], [2.0, -1.0, float("nan")]]])
    with Reporter("coarse", 20, tmp_path, quiet=True) as reporter:
        path = reporter.image("validation | 3", picture, 7)
        reporter.image("mask", np.ones((2, 2)), 7)
    assert path == tmp_path / "previews" / "validation_3_000007.png"
    assert np.asarray(Image.open(path)).tolist() == [[[0, 128, 255], [255, 0, 0]]]
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["images"]) == ["mask", "validation | 3"]


def test_nothing_is_written_before_something_is_logged(tmp_path):
    with Reporter("coarse", 20, tmp_path / "logs", quiet=True):
        pass
    assert not (tmp_path / "logs").exists()


def test_markup_in_a_message_is_plain_text(tmp_path):
    console = plain_console()
    with Reporter("coarse", 20, tmp_path, console=console) as reporter:
        reporter.message("file [bold]name[/].png")
    assert console.file.getvalue() == "file [bold]name[/].png\n"


def test_compiling_is_announced_once_and_left_out_of_the_time(tmp_path, monkeypatch):
    from numba.core.event import end_event, start_event

    seconds = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])

    def works(compiling: float, rest: float) -> None:
        for _ in range(2 if compiling else 0):  # two kernels
            start_event("numba:compile")
            seconds[0] += 0.5 * compiling
            end_event("numba:compile")
        seconds[0] += rest

    console = plain_console()
    with Reporter("coarse", 10, tmp_path, console=console, log_every=1) as reporter:
        works(40.0, 5.0)
        reporter.step(1, {}, {}, {"step": 45.0})
        works(20.0, 3.0)
        reporter.step(2, {}, {}, {"step": 23.0})
        works(0.0, 2.0)
        reporter.step(3, {}, {}, {"step": 2.0})
    lines = console.file.getvalue().splitlines()
    assert lines == [
        "compiling kernels (once per machine) …",
        "coarse 1/10 (10 %)  5.000 s/step  45 s left",
        "coarse 2/10 (20 %)  3.000 s/step  32 s left",
        "coarse 3/10 (30 %)  2.000 s/step  14 s left",  # as the step that compiled nothing
    ]
    start_event("numba:compile")  # nobody listens any more
    end_event("numba:compile")
    assert len(console.file.getvalue().splitlines()) == 4
