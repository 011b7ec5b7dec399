"""What every stage gets: the run, the machine, and how much to print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from stspbr import torchrun
from stspbr.artifacts import Artifact, ArtifactStore, Draft
from stspbr.errors import StspbrError
from stspbr.fields.backend import choose_encoding
from stspbr.optimize.checkpoint import Checkpoints
from stspbr.optimize.distributed import Ranks, TorchrunRanks
from stspbr.optimize.progress import Pace, Reporter, Reporting, SilentReporter
from stspbr.optimize.whole_progress import WholeProgress
from stspbr.render.backend import get_backend, why_no_gpu_backend
from stspbr.render.raster_backend import RasterBackend
from stspbr.settings import Settings
from stspbr.threads import available_cores, set_threads
from stspbr.version import __version__
from stspbr.warp_runtime import set_deterministic


@dataclass
class Session:
    """One invocation on one run folder.

    Attributes:
        run: the run's folder.
        seed: of everything random.
        device: torch device; backend: its raster operations; encoding: the backend of the networks' encodings.
        threads: of torch and of Numba.
        resume: continue from checkpoints if there are any.
        quiet, json_lines: what the reporter prints.
        versions: stage name to the version (``v0003``) that ``--from`` picks; other stages use the newest.
        ranks: the processes of this invocation; more than one under torchrun.
        whole: how far the pipeline is that this invocation runs; None: it runs one stage.
    """

    run: Path
    seed: int
    device: torch.device
    backend: RasterBackend
    threads: int
    resume: bool = False
    quiet: bool = False
    json_lines: bool = False
    versions: dict[str, str] = field(default_factory=dict)
    encoding: str = "auto"
    ranks: Ranks = field(default_factory=Ranks)
    whole: WholeProgress | None = None

    @classmethod
    def open(
        cls,
        run: Path,
        *,
        seed: int = 0,
        device: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
        resume: bool = False,
        quiet: bool = False,
        json_lines: bool = False,
        versions: dict[str, str] | None = None,
    ) -> Session:
        """Check device and backend and set the threads; ``device="auto"`` is CUDA if it works, else the CPU.

        ``backend`` names the raster operations, and after a ``+`` the encodings: ``auto``, ``cpu``, ``warp``,
        ``nvdiffrast``, ``auto+torch``, ``nvdiffrast+tinycudann``, … An omitted part is ``auto``.

        Under torchrun it joins the other processes: each takes its own GPU, or its part of the cores. Run the stages
        ``with session.ranks.together()``, so that all processes stop if one does.
        """
        place = torchrun.place()
        ranks = TorchrunRanks(place) if place.size > 1 else Ranks()
        raster, _, encoding = backend.partition("+")
        with ranks.together():
            chosen = _device(device, raster)
            if ranks.size > 1:
                chosen = _own_device(chosen, place)
                ranks.use(chosen)
                threads = threads or max(1, available_cores() // place.local_size)
            if chosen.index is not None:
                torch.cuda.set_device(chosen)  # libraries launch on the current device
            count = set_threads(threads)
            return cls(
                Path(run),
                seed,
                chosen,
                get_backend(raster, chosen),
                count,
                resume,
                quiet or not ranks.is_first,
                json_lines and ranks.is_first,
                dict(versions or {}),
                choose_encoding(encoding or "auto", chosen),
                ranks,
            )

    def order_sums(self, deterministic: bool) -> None:
        """Let sums on a GPU have a fixed order from now on, or any; on the CPU they have one.

        Raises:
            StspbrError: ``deterministic`` on a GPU without Warp's kernels.
        """
        if self.device.type == "cuda":
            if deterministic and self.backend.name != "warp":
                raise StspbrError(f"optimize.deterministic: {self.backend.name} sums in any order: use --backend warp")
            if deterministic and self.encoding == "tinycudann":
                raise StspbrError("optimize.deterministic: tinycudann sums in any order: use --backend warp+warp")
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else matrix products have no fixed order
            torch.use_deterministic_algorithms(deterministic, warn_only=True)
            if self.backend.name == "warp":
                set_deterministic(deterministic)

    @property
    def backends(self) -> dict[str, str]:
        """The backends in use, for the manifest."""
        return {"raster": self.backend.name, "encoding": self.encoding}

    @property
    def store(self) -> ArtifactStore:
        """The run's artifacts."""
        return ArtifactStore(self.run)

    def create(
        self, stage: str, settings: BaseModel, parents: Sequence[Artifact] = ()
    ) -> AbstractContextManager[Draft]:
        """A new version of ``stage`` that records this session's machine and seed; see ``ArtifactStore.create``."""
        return self.store.create(
            stage, settings=settings.model_dump(mode="json"), parents=parents, device=str(self.device),
            threads=self.threads, seed=self.seed, backends=self.backends,
        )  # fmt: skip

    def parent(self, stage: str) -> Artifact:
        """The artifact of ``stage`` to build on: the newest, or the one that ``--from`` names."""
        return self.ranks.first(lambda: self.store.resolve(stage, self.versions.get(stage)))

    def parent_of(self, artifact: Artifact, stage: str) -> Artifact:
        """See :meth:`stspbr.artifacts.ArtifactStore.parent_of`."""
        return self.ranks.first(lambda: self.store.parent_of(artifact, stage))

    def asset(self) -> Artifact:
        """The artifact whose asset is used: ``refine``'s or ``bake``'s, see ``ArtifactStore.finished``."""
        refined = self.versions.get("refine")
        wanted = f"refine/{refined}" if refined else self.versions.get("bake")
        return self.ranks.first(lambda: self.store.finished(wanted))

    def lineage(self, artifact: Artifact) -> dict[str, Artifact]:
        """``artifact`` and all that it was made from, by stage; see ``ArtifactStore.lineage``."""
        return self.ranks.first(lambda: self.store.lineage(artifact))

    def capture_of(self, artifact: Artifact) -> Artifact:
        """The capture that ``artifact`` was made from; StspbrError if its maps come from a text."""
        found = self.lineage(artifact).get("capture")
        if found is None:
            raise StspbrError(f"{artifact.path}: its maps come from a text, so it has no photographs")
        return found

    def checkpoints(self, stage: str, settings: Settings, parents: list[Artifact]) -> Checkpoints:
        """Checkpoints of this stage on these parents with these settings, seed and backends."""
        work = {
            "package": __version__,
            "stage": stage,
            "settings": settings.model_dump(mode="json"),
            "parents": [parent.content_hash for parent in parents],
            "seed": self.seed,
            "backends": self.backends,  # the manifest names one set: no other may resume the checkpoint
        }
        return Checkpoints(self.run / ".checkpoints" / stage, work)

    def say(self, line: str) -> None:
        """Print a line for people, if they want any."""
        if not self.quiet and not self.json_lines:
            sys.stdout.write(f"stspbr: {line}\n")

    @contextmanager
    def reporter(
        self, stage: str, settings: Pace, beside: Callable[[Path, int], None] | None = None
    ) -> Iterator[Reporting]:
        """Progress bar, previews and TensorBoard of one stage, in ``RUN/logs/<stage>``; on the first rank only.

        Args:
            beside: writes more beside the previews; see ``Reporter``.
        """
        if not self.ranks.is_first:
            yield SilentReporter()
            return
        with Reporter(
            stage,
            settings.iterations,
            self.run / "logs" / stage,
            quiet=self.quiet,
            json_lines=self.json_lines,
            log_every=settings.log_every,
            beside=beside,
            whole=self.whole,
        ) as reporter:
            yield reporter


def on_first_rank(stage: Callable[[Session, Any], Any]) -> Callable[[Session, Any], Any]:
    """Decorate a stage that only the first rank runs; the others wait and get its result."""

    @wraps(stage)
    def run(session: Session, settings: Any) -> Any:
        return session.ranks.first(lambda: stage(session, settings))

    return run


def _own_device(device: torch.device, place: torchrun.Place) -> torch.device:
    """The GPU of this process among those of its machine."""
    if device.type != "cuda":
        return device
    if device.index is not None:
        raise StspbrError(f"--device {device}: under torchrun every process has its own GPU; give --device cuda")
    count, size = torch.cuda.device_count(), place.local_size
    if size > count:
        raise StspbrError(f"torchrun started {size} processes for {count} GPU(s): use --nproc-per-node {count}")
    return torch.device("cuda", place.local_rank)


def _device(name: str, raster: str) -> torch.device:
    """``auto`` is CUDA if torch finds it, raster operations can run there and ``raster`` is not ``cpu``; else the CPU.

    Without Warp and nvdiffrast the CPU has the only raster operations, and nothing else moves to the GPU.
    """
    if name == "auto":
        usable = torch.cuda.is_available() and raster != "cpu" and why_no_gpu_backend(torch.device("cuda")) is None
        name = "cuda" if usable else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise StspbrError(f"--device {name}: unknown; choose auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise StspbrError(f"--device {name}: only cpu and cuda are supported")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise StspbrError(f"--device {name}: torch finds no CUDA device; see `stspbr doctor` or use --device cpu")
        count = torch.cuda.device_count()
        if device.index is not None and device.index >= count:
            raise StspbrError(f"--device {name}: torch finds {count} CUDA device(s), counted from cuda:0")
    return device
