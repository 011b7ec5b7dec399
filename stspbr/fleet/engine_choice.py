"""The engine that the settings name."""

from __future__ import annotations

from pathlib import Path

from stspbr.errors import StspbrError
from stspbr.fleet.engine import Engine
from stspbr.settings import FleetSettings
from stspbr.threads import available_cores


def open_engine(fleet: FleetSettings, home: str, cores: int) -> Engine:
    """The engine that the settings name.

    Args:
        home: address of the runs; cores: of a task.

    Raises:
        StspbrError: its package is missing (the line names the extra), or the cluster does not answer.
    """
    name = fleet.engine or "local"
    if name == "local":
        from stspbr.fleet.local_engine import LocalEngine

        if fleet.address is not None:
            raise StspbrError(f"--address {fleet.address}: the local engine has none; add --engine ray")
        return LocalEngine.of_this_machine(fleet.workers)
    if name == "ray":
        from stspbr.fleet.ray_engine import RayEngine

        whole = cores * fleet.workers if fleet.workers else available_cores()
        return RayEngine(fleet.address or "local", fleet.workers, max(whole, cores))
    from stspbr.fleet.slurm_engine import SlurmEngine

    folder = Path.cwd() / ".stspbr-fleet" if "://" in home else Path(home).resolve() / ".fleet"
    return SlurmEngine(fleet.address or "slurm", fleet.workers, folder / "submitit", fleet.slurm)
