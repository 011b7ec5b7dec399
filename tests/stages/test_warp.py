"""The stages on Warp's CPU device: they see what the Numba kernels see, and go on after an interruption bit for bit."""

from __future__ import annotations

import json
import shutil

import pytest

from stspbr.optimize.reconstruction import Reconstruction
from stspbr.settings import CoarseSettings, settings_for
from stspbr.stages.coarse import run_coarse
from stspbr.stages.session import Session
from stspbr.warp_runtime import why_no_warp

pytestmark = pytest.mark.skipif(why_no_warp() is not None, reason=f"{why_no_warp()}")
SMALL = ["geometry.resolution=14", "light.mode=learned", "light.learned_resolution=16", "optimize.batch=2"]
SMALL += [f"fields.{name}.{size}" for name in ("appearance", "reflectance")
          for size in ("levels=3", "log2_table_size=10", "finest_resolution=32")]  # fmt: skip


def coarse(run, backend, steps, **options):
    session = Session.open(run, device="cpu", backend=backend, quiet=True, **options)
    settings = settings_for(CoarseSettings, [*SMALL, f"optimize.iterations={steps}", "optimize.checkpoint_every=6"])
    return run_coarse(session, settings)


def test_the_coarse_stage_is_that_of_the_cpu_backend(tiny_run, tmp_path):
    shutil.copytree(tiny_run, tmp_path / "run")  # others share the capture
    artifacts = [coarse(tmp_path / "run", backend, 12) for backend in ("cpu", "warp+warp")]
    used = [artifact.manifest["backends"] for artifact in artifacts]
    assert used == [{"raster": name, "encoding": name} for name in ("cpu", "warp")]
    numba, warp = (json.loads(a.file("metrics.json").read_text(encoding="utf-8"))["held_out"] for a in artifacts)
    assert abs(numba["psnr_mean"] - warp["psnr_mean"]) < 0.05  # dB: the same sums in another order, twelve times


def test_an_interrupted_stage_resumes_bit_for_bit(tiny_run, tmp_path, monkeypatch):
    original = Reconstruction.terms

    def interrupted(self, step, *rest):
        if step == 8:
            raise KeyboardInterrupt
        return original(self, step, *rest)

    hashes = []
    for name in ("whole", "broken"):
        shutil.copytree(tiny_run, tmp_path / name)
        if name == "broken":
            monkeypatch.setattr(Reconstruction, "terms", interrupted)
            with pytest.raises(KeyboardInterrupt):
                coarse(tmp_path / name, "warp+warp", 10)
            monkeypatch.setattr(Reconstruction, "terms", original)
        hashes.append(coarse(tmp_path / name, "warp+warp", 10, resume=name == "broken").content_hash)
    assert hashes[0] == hashes[1]
