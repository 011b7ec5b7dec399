"""A loss of one's own: register it, then name it in the settings.

python examples/custom_loss.py [RUN]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import stspbr
from stspbr.settings import CaptureMeshSettings, CoarseSettings, settings_for

stspbr.prepare_process()  # before torch is imported

import torch  # noqa: E402


def cauchy(rendered: torch.Tensor, target: torch.Tensor, exposure: torch.Tensor | float) -> torch.Tensor:
    """ln(1 + d²/e): gentle with outliers; its scale follows the exposure of the capture."""
    return torch.log1p((rendered - target) ** 2 / (0.1 * exposure + 1e-8))


def main(run: Path, steps: int = 40) -> Path:
    """Fit a small capture of the demo object with the new loss for network A; returns the artifact's folder."""
    stspbr.register_loss("cauchy", cauchy)
    session = stspbr.Session.open(run, quiet=True)
    demo = "procedural:demo"
    stspbr.run_capture(session, CaptureMeshSettings(asset=demo, light=demo, views=8, test_views=2, resolution=48))
    overrides = [
        "optimize.losses.appearance={cauchy=0.5, logl1=0, smape=0}",
        "geometry.resolution=24",
        f"optimize.iterations={steps}",
    ]
    return stspbr.run_coarse(session, settings_for(CoarseSettings, overrides)).path


if __name__ == "__main__":
    print(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())))
