"""Read an artifact and plot it: histograms of the maps of a bake.

python examples/plot_artifact.py RUN [OUT.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from stspbr.artifacts import ArtifactStore  # noqa: E402
from stspbr.formats.gltf.reader import read_gltf  # noqa: E402


def main(run: Path, out: Path) -> Path:
    """Plot albedo, roughness and metallic of the newest bake in ``run``; returns ``out``."""
    artifact = ArtifactStore(run).resolve("bake")
    material = read_gltf(artifact.file("asset.glb")).materials[0]
    maps = {"albedo": material.albedo, "roughness": material.roughness, "metallic": material.metallic}
    figure, axes = pyplot.subplots(1, len(maps), figsize=(9, 2.6), sharey=True)
    for axis, (name, values) in zip(axes, maps.items(), strict=True):
        axis.hist(values.reshape(-1), bins=64, range=(0, 1))
        axis.set_xlabel(name)
    axes[0].set_ylabel("texels")
    figure.suptitle(f"{artifact.stage} {artifact.version}, {artifact.content_hash[:8]}")
    figure.tight_layout()
    figure.savefig(out, dpi=120)
    return out


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "maps.png")))
