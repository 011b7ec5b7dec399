"""USD stages: opened with one-line errors, prims found by path, units and up axis, the bytes behind asset paths.

usd-core is an extra (``pip install 'stspbr[usd]'``) and is imported inside the functions that need it.
"""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from stspbr.errors import StspbrError, first_line, missing_extra
from stspbr.formats.images import IMAGE_SUFFIXES
from stspbr.formats.usd.probe import check_binary

USD_SUFFIXES = (".usd", ".usda", ".usdc", ".usdz")
_Z_UP_TO_Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
_RIGID = 1e-4  # relative: transforms are often made of float32 operations
_UNITS = {1.0: "metres", 0.01: "centimetres", 0.001: "millimetres", 0.0254: "inches", 0.3048: "feet"}


def require_usd(purpose: str) -> None:
    """StspbrError that names the extra, where usd-core is not installed; ``purpose`` is a plural."""
    try:
        import pxr.Usd  # noqa: F401
    except ImportError:
        raise missing_extra("usd-core", "usd", purpose) from None


def open_stage(path: str | Path) -> tuple[Any, list[str]]:
    """Open a USD file.

    Returns:
        The ``Usd.Stage``, and remarks on files that it refers to and that could not be composed.

    Raises:
        StspbrError: the file is missing, truncated or not USD; usd-core is absent.
    """
    path = Path(path)
    require_usd("USD files")
    from pxr import Tf, Usd, UsdUtils

    if not path.is_file():
        raise StspbrError(f"{path} does not exist: check the path")
    if path.suffix.lower() not in USD_SUFFIXES:
        raise StspbrError(f"{path}: expected one of {', '.join(USD_SUFFIXES)}")
    check_binary(path)
    with quiet_diagnostics(UsdUtils):
        try:
            stage = Usd.Stage.Open(str(path))
        except Tf.ErrorException as error:
            raise StspbrError(f"{path} is truncated or not USD ({reason(error)}): export or copy it again") from None
        if not stage.GetPseudoRoot().GetChildren():
            raise StspbrError(f"{path} holds no prims: export the scene again")
        remarks = [f"{path.name}: {str(error).strip()}" for error in stage.GetCompositionErrors()]
    return stage, remarks


@contextmanager
def quiet_diagnostics(usd_utils: Any) -> Iterator[None]:
    """USD's own warnings are kept off the terminal; the caller reports what matters."""
    delegate = usd_utils.CoalescingDiagnosticDelegate()
    try:
        yield
    finally:
        delegate.TakeCoalescedDiagnostics()
        del delegate


@contextmanager
def one_line_errors(path: str | Path) -> Iterator[None]:
    """Errors that USD raises while values are read (a crate file that ends too soon) become one line."""
    from pxr import Tf

    try:
        yield
    except Tf.ErrorException as error:
        raise StspbrError(f"{path} is truncated or corrupt ({reason(error)}): export or copy it again") from None
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:  # values of another type than the schema's
        raise StspbrError(f"{path} is not valid USD ({first_line(error)}): export it again") from error


def reason(error: Exception) -> str:
    """The first message of a ``Tf.ErrorException`` without its place in USD's own source."""
    try:
        text = str(error)
    except UnicodeDecodeError:  # a message that quotes a damaged file
        return "bytes that are not text"
    found = re.search(r" : '(.*?)'(?:\n|$)", text, re.DOTALL)
    return " ".join((found.group(1) if found else text).split())


def up_and_metres(stage: Any) -> tuple[np.ndarray, float, list[str]]:
    """How a stage's world becomes ours: ``ours = rotation @ usd · metres``.

    Returns:
        The rotation ``[3, 3]`` that turns the stage's up axis to +Y, metres per unit, and what was done, in words.

    Raises:
        StspbrError: an up axis other than Y and Z; a unit that is not positive.
    """
    from pxr import UsdGeom

    axis, metres = str(UsdGeom.GetStageUpAxis(stage)), float(UsdGeom.GetStageMetersPerUnit(stage))
    name = Path(stage.GetRootLayer().identifier).name
    if axis not in ("Y", "Z"):
        raise StspbrError(f"{name}: upAxis is {axis}: it must be Y or Z")
    if not (np.isfinite(metres) and metres > 0):
        raise StspbrError(f"{name}: metersPerUnit is {metres:g}: it must be positive")
    remarks = []
    if not UsdGeom.StageHasAuthoredMetersPerUnit(stage):
        remarks.append(f"{name} has no metersPerUnit: USD's own default, centimetres, counts")
    if abs(metres - 1.0) > 1e-9:
        unit = next((word for size, word in _UNITS.items() if abs(size - metres) < 1e-6 * size), "a unit of its own")
        remarks.append(f"{name} is in {unit}: brought to metres by a factor of {metres:g}")
    if axis == "Z":
        remarks.append(f"{name} is Z-up: turned to +Y up")
    return _Z_UP_TO_Y_UP if axis == "Z" else np.eye(3), metres, remarks


def find_prim(stage: Any, path: str, what: str, fits: Callable[[Any], bool]) -> Any:
    """The active, defined prim at ``path`` of the kind that ``fits`` accepts; ``what`` names the kind.

    Raises:
        StspbrError: there is none, with the nearest paths of that kind; or it is inactive, abstract, only an
            ``over``, or part of an instance's prototype.
    """
    from pxr import Sdf

    file = Path(stage.GetRootLayer().identifier).name
    sound = bool(Sdf.Path.IsValidPathString(path)[0]) if path.startswith("/") else False
    prim = stage.GetPrimAtPath(path) if sound and Sdf.Path(path).IsPrimPath() else None
    if not prim:
        raise StspbrError(f"{file} has no prim {path}{_suggestion(stage, path, what, fits)}")
    if not prim.IsActive():
        raise StspbrError(f"{file}: {path} is inactive: activate it")
    if prim.IsInPrototype():
        raise StspbrError(f"{file}: {path} lies in an instance's prototype: give its path below the instance")
    if not prim.IsDefined() or prim.IsAbstract():
        state = "a class" if prim.GetSpecifier() == Sdf.SpecifierClass else "only an over (a reference is missing?)"
        raise StspbrError(f"{file}: {path} is {state}, not a prim that is drawn")
    if not fits(prim):
        kind = prim.GetTypeName() or "prim without a type"
        raise StspbrError(f"{file}: {path} is a {kind}, not a valid {what}{_suggestion(stage, path, what, fits)}")
    return prim


def _suggestion(stage: Any, path: str, what: str, fits: Callable[[Any], bool]) -> str:
    from pxr import Usd

    found = [str(prim.GetPath()) for prim in stage.Traverse(Usd.TraverseInstanceProxies()) if fits(prim)]
    if not found:
        return f": there is no {what} in the file"
    by_name = {other.rpartition("/")[2].lower(): other for other in reversed(found)}
    close = difflib.get_close_matches(path, found, n=3, cutoff=0.6)
    last = difflib.get_close_matches(path.rpartition("/")[2].lower(), list(by_name), n=2, cutoff=0.6)
    near = list(dict.fromkeys(close + [by_name[name] for name in last]))
    return f": did you mean {', '.join(near[:3])}?" if near else f": every {what}: {', '.join(found[:5])}"


def rigid_and_scale(matrix: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Rotation ``[3, 3]``, translation ``[3]`` and uniform scale of an affine ``[4, 4]`` (column vectors).

    Raises:
        StspbrError: a scale that differs between axes, shear, or a mirror; ``what`` names the place.
    """
    linear = np.asarray(matrix, np.float64)[:3, :3]
    determinant = np.linalg.det(linear)
    scale = float(np.cbrt(abs(determinant)))
    if not np.isfinite(scale) or scale <= 0:
        raise StspbrError(f"{what} has a scale of 0 or a transform that is not finite: fix it")
    gram = linear.T @ linear / scale**2
    if np.abs(gram - np.eye(3)).max() > _RIGID:
        axes = ", ".join(f"{v:.4g}" for v in np.linalg.norm(linear, axis=0))
        raise StspbrError(f"{what} is not rigid: non-uniform scale or shear (axes {axes}): freeze it into the points")
    if determinant < 0:
        raise StspbrError(f"{what} mirrors (negative scale): freeze it into the points")
    u, _, v = np.linalg.svd(linear)
    return u @ v, np.asarray(matrix, np.float64)[:3, 3].copy(), scale


def local_to_world(cache: Any, prim: Any) -> np.ndarray:
    """``[4, 4]`` float64 for column vectors of a prim, from a ``UsdGeom.XformCache`` (USD itself has rows)."""
    return np.array(cache.GetLocalToWorldTransform(prim), np.float64).T


@contextmanager
def asset_file(asset: Any, stage: Any, what: str) -> Iterator[Path]:
    """The file of an ``Sdf.AssetPath`` on disk; one that lies inside a USDZ is unpacked for the time of the body.

    Raises:
        StspbrError: it cannot be found; it is not a kind of image that is read here; UDIM tiles.
    """
    from pxr import Ar

    written = str(asset.path)
    if "<UDIM>" in written:
        raise StspbrError(f"{what}: {written} is made of UDIM tiles: export it as one texture")
    resolved, layer = str(asset.resolvedPath), stage.GetRootLayer()
    for name in (written, written.replace("\\", "/")):
        resolved = resolved or str(Ar.GetResolver().Resolve(layer.ComputeAbsolutePath(name)))
    inside = Ar.IsPackageRelativePath(resolved)
    opened = Ar.GetResolver().OpenAsset(Ar.ResolvedPath(resolved)) if inside and resolved else None
    if not resolved or (inside and opened is None) or (not inside and not Path(resolved).is_file()):
        raise StspbrError(f"{what}: {written} does not exist: copy it beside the USD file")
    suffix = Path(written).suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise StspbrError(f"{what}: cannot read {written}: export it as one of {', '.join(IMAGE_SUFFIXES)}")
    if opened is None:
        yield Path(resolved)
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / f"{Path(written).stem}{suffix}"
        place.write_bytes(bytes(opened.GetBuffer()))
        yield place
