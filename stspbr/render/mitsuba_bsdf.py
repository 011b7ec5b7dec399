"""glTF 2.0 metallic-roughness as a Mitsuba 3 BSDF, and the search for an LLVM that Mitsuba can use.

Mitsuba's own ``principled`` differs from glTF's model by up to 20 %, so the reference path tracer uses ours.
"""

from __future__ import annotations

import functools
import glob
import importlib.util
import os
import re
import subprocess
import sys

from stspbr.errors import StspbrError, missing_extra

VARIANT = "llvm_ad_rgb"
BSDF_NAME = "stspbr_gltf"
MIN_ROUGHNESS = 0.02  # α = 4e-4: sharper than any texel of a light, and safe in single precision
_OLDEST_LLVM = 19
_HOW_TO = "install LLVM 19 or newer (Debian: apt-get install libllvm19) or set DRJIT_LIBLLVM_PATH to its libLLVM.so"
_LLVM_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib",
                 "/usr/lib/llvm-*/lib", "/opt/homebrew/opt/llvm*/lib", "/usr/local/opt/llvm*/lib")  # fmt: skip
_PROBE = """
import mitsuba as mi
mi.set_variant("llvm_ad_rgb")
scene = mi.load_dict({"type": "scene", "integrator": {"type": "path"}, "light": {"type": "constant"},
    "sphere": {"type": "sphere", "bsdf": {"type": "principled"}},
    "sensor": {"type": "perspective", "film": {"type": "hdrfilm", "width": 4, "height": 4}}})
print("rendered", mi.render(scene, spp=1).numpy().shape, mi.__version__)
"""


def find_llvm() -> list[str]:
    """Paths of every libLLVM ≥ 19 in the system's library folders, newest first, one per version."""
    found: dict[int, str] = {}
    for folder in _LLVM_FOLDERS:
        for path in sorted(glob.glob(f"{folder}/libLLVM*")):
            match = re.search(r"libLLVM(?:\.so\.|-)(\d+)[^/]*$", path)
            if match and int(match[1]) >= _OLDEST_LLVM:
                found.setdefault(int(match[1]), path)
    return [found[version] for version in sorted(found, reverse=True)]


@functools.cache
def llvm_status() -> tuple[bool, str]:
    """Whether Mitsuba can render with LLVM here, and its version or the reason and the remedy.

    The trial runs in another process, because too old an LLVM (15) aborts its process. If the default library fails
    and a newer one is found, ``DRJIT_LIBLLVM_PATH`` is set for this process.
    """
    if importlib.util.find_spec("mitsuba") is None:
        return False, "Mitsuba is not installed: pip install 'stspbr[reference]'"
    given = os.environ.get("DRJIT_LIBLLVM_PATH")
    # found libraries first: the loader's default may be an old one that aborts
    for path in [given] if given else [*find_llvm(), None]:
        ok, status = _probe(dict(os.environ, **({"DRJIT_LIBLLVM_PATH": path} if path else {})))
        if ok:
            if path and not given:
                os.environ["DRJIT_LIBLLVM_PATH"] = path
            return True, f"{status} with {path or 'the default libLLVM'}"
    where = f" (DRJIT_LIBLLVM_PATH={given})" if given else ""
    return False, f"Mitsuba's LLVM backend does not work here{where}: {status}; {_HOW_TO}"


def require_mitsuba(purpose: str):
    """Import Mitsuba with the LLVM variant, our BSDF and as many threads as torch; the error names ``purpose``.

    Raises:
        StspbrError: Mitsuba or a fitting LLVM is not installed.
    """
    if importlib.util.find_spec("mitsuba") is None:
        raise missing_extra("mitsuba", "reference", purpose)
    ok, message = llvm_status()
    if not ok:
        raise StspbrError(message)
    import drjit as dr
    import mitsuba as mi
    import torch

    mi.set_variant(VARIANT)
    dr.set_thread_count(torch.get_num_threads())
    _register()
    return mi


def _probe(environment: dict[str, str]) -> tuple[bool, str]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], env=environment, capture_output=True, text=True, timeout=300
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"the trial render did not finish ({type(error).__name__})"
    lines = [line for line in done.stdout.splitlines() if line.startswith("rendered")]
    if done.returncode == 0 and lines:
        return True, f"Mitsuba {lines[-1].split()[-1]} renders"
    if done.returncode < 0:
        return False, f"the trial render was killed by signal {-done.returncode} (as LLVM 15 does)"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return False, (lines[-1] if lines else f"the trial render ended with code {done.returncode}")[:200]


@functools.cache
def _register() -> None:
    """Define the BSDF class (its base belongs to the active variant) and register it as ``stspbr_gltf``."""
    import drjit as dr
    import mitsuba as mi

    flags = mi.BSDFFlags

    class GltfBSDF(mi.BSDF):
        """glTF 2.0 appendix B, simplified form, with its textures; the same on both sides.

        f = (1 − F)·c_diff/π + F·D·V; c_diff = albedo·(1 − metallic), F = F0 + (1 − F0)(1 − v·h)⁵ with
        F0 = lerp(0.04, albedo, metallic), D = GGX(α = roughness²), V = height-correlated Smith.

        Children: textures ``albedo``, ``roughness``, ``metallic`` and, if ``has_normal``, ``normal`` (tangent
        space in [−1, 1]), ``tangent`` (world space) and ``handedness``. Sampling is a mixture of a cosine lobe
        and GGX's visible normals (Heitz 2018, "Sampling the GGX Distribution of Visible Normals").
        """

        def __init__(self, props):
            mi.BSDF.__init__(self, props)
            self.albedo, self.roughness, self.metallic = (props[k] for k in ("albedo", "roughness", "metallic"))
            self.bumpy = bool(props.get("has_normal", False))
            if self.bumpy:
                self.normal, self.tangent, self.handedness = (props[k] for k in ("normal", "tangent", "handedness"))
            sides = flags.FrontSide | flags.BackSide | flags.SpatiallyVarying
            self.m_components = [flags.DiffuseReflection | sides, flags.GlossyReflection | sides]
            self.m_flags = self.m_components[0] | self.m_components[1]

        def sample(self, ctx, si, sample1, sample2, active=True):
            frame, wi = self._frame(si, active)
            material = self._material(si, active)
            alpha, share = material[2], self._specular_share(material, wi)
            specular = sample1 < share
            h = self._visible_normal(wi, alpha, sample2)
            reflected = 2.0 * dr.dot(wi, h) * h - wi
            local = dr.select(specular, reflected, mi.warp.square_to_cosine_hemisphere(sample2))
            value, pdf = self._evaluate(material, share, wi, local)
            bs = mi.BSDFSample3f()
            bs.wo, bs.pdf, bs.eta = frame.to_world(local), pdf, 1.0
            bs.sampled_component = dr.select(specular, mi.UInt32(1), mi.UInt32(0))
            glossy, diffuse = (mi.UInt32(+kind) for kind in (flags.GlossyReflection, flags.DiffuseReflection))
            bs.sampled_type = dr.select(specular, glossy, diffuse)
            return bs, dr.select(active & (pdf > 0.0), value / dr.maximum(pdf, 1e-30), 0.0)

        def eval(self, ctx, si, wo, active=True):
            return self.eval_pdf(ctx, si, wo, active)[0]

        def pdf(self, ctx, si, wo, active=True):
            return self.eval_pdf(ctx, si, wo, active)[1]

        def eval_pdf(self, ctx, si, wo, active=True):
            frame, wi = self._frame(si, active)
            material = self._material(si, active)
            value, pdf = self._evaluate(material, self._specular_share(material, wi), wi, frame.to_local(wo))
            return dr.select(active, value, 0.0), dr.select(active, pdf, 0.0)

        def eval_diffuse_reflectance(self, si, active=True):
            albedo, metallic, _ = self._material(si, active)
            return albedo * (1.0 - metallic)

        def traverse(self, cb):
            for name in ("albedo", "roughness", "metallic"):
                cb.put(name, getattr(self, name), +mi.ParamFlags.Differentiable)
            if self.bumpy:
                cb.put("normal", self.normal, +mi.ParamFlags.NonDifferentiable)

        def to_string(self):
            return "GltfBSDF[]"

        def _material(self, si, active):
            """Albedo, metallic and α at the hit."""
            roughness = dr.clip(self.roughness.eval_1(si, active), MIN_ROUGHNESS, 1.0)
            albedo = dr.clip(self.albedo.eval(si, active), 0.0, 1.0)
            return albedo, dr.clip(self.metallic.eval_1(si, active), 0.0, 1.0), roughness * roughness

        def _frame(self, si, active):
            """The shading frame, relative to ``si.sh_frame``, and the view direction in it (z > 0)."""
            n = mi.Vector3f(0.0, 0.0, 1.0)
            if self.bumpy:
                t = dr.normalize(si.sh_frame.to_local(self.tangent.eval_3(si, active)))
                b = self.handedness.eval_1(si, active) * dr.cross(n, t)
                m = self.normal.eval_3(si, active)
                n = dr.normalize(m.x * t + m.y * b + m.z * n)
            # the triangle decides the side: an interpolated normal may point away from a visible face
            n = n * dr.select(dr.dot(si.n, si.to_world(si.wi)) < 0.0, -1.0, 1.0)
            frame = mi.Frame3f(n)
            wi = frame.to_local(si.wi)
            return frame, dr.normalize(mi.Vector3f(wi.x, wi.y, dr.maximum(wi.z, 1e-3)))

        def _specular_share(self, material, wi):
            """Probability of the specular lobe: its share of the reflectance, estimated at the normal."""
            albedo, metallic, _ = material
            f = self._fresnel(albedo, metallic, wi.z)
            specular = dr.mean(f)
            diffuse = dr.mean((1.0 - f) * albedo * (1.0 - metallic))
            return dr.clip(specular / dr.maximum(specular + diffuse, 1e-6), 0.1, 1.0)

        def _fresnel(self, albedo, metallic, cosine):
            f0 = 0.04 * (1.0 - metallic) + albedo * metallic
            q = dr.clip(1.0 - cosine, 0.0, 1.0)
            return f0 + (1.0 - f0) * (q * q) * (q * q) * q

        def _evaluate(self, material, share, wi, wo):
            """BRDF times cosine, and the mixture's density, both for directions in the shading frame."""
            albedo, metallic, alpha = material
            h = dr.normalize(wi + wo)
            vh, a2 = dr.maximum(dr.dot(wi, h), 0.0), alpha * alpha
            # sin² from x and y: 1 − z² would lose every digit on smooth surfaces
            spread = h.x * h.x + h.y * h.y + a2 * h.z * h.z
            d = a2 / (dr.pi * spread * spread)
            smith_i, smith_o = (dr.sqrt(a2 + (1.0 - a2) * w.z * w.z) for w in (wi, wo))
            v = 0.5 / dr.maximum(wo.z * smith_i + wi.z * smith_o, 1e-12)
            f = self._fresnel(albedo, metallic, vh)
            value = ((1.0 - f) * albedo * ((1.0 - metallic) / dr.pi) + f * (d * v)) * wo.z
            # visible normals: D·G1/(4·cos) = D / (2·(cos + sqrt(α² + (1 − α²)cos²)))
            glossy = d / (2.0 * (wi.z + smith_i))
            pdf = share * glossy + (1.0 - share) * wo.z / dr.pi
            ok = (wo.z > 0.0) & (vh > 0.0)
            return dr.select(ok, value, 0.0), dr.select(ok, pdf, 0.0)

        def _visible_normal(self, wi, alpha, sample):
            """A microfacet normal, with a density proportional to its visible area."""
            stretched = dr.normalize(mi.Vector3f(alpha * wi.x, alpha * wi.y, wi.z))
            length = dr.square(stretched.x) + dr.square(stretched.y)
            across, flat = dr.rsqrt(dr.maximum(length, 1e-20)), length < 1e-14
            x, y = dr.select(flat, 1.0, -stretched.y * across), dr.select(flat, 0.0, stretched.x * across)
            t1 = mi.Vector3f(x, y, 0.0)
            t2 = dr.cross(stretched, t1)
            r, phi = dr.sqrt(sample.x), 2.0 * dr.pi * sample.y
            p1, p2 = r * dr.cos(phi), r * dr.sin(phi)
            s = 0.5 * (1.0 + stretched.z)
            p2 = (1.0 - s) * dr.sqrt(dr.maximum(1.0 - p1 * p1, 0.0)) + s * p2
            up = dr.sqrt(dr.maximum(1.0 - p1 * p1 - p2 * p2, 0.0))
            n = p1 * t1 + p2 * t2 + up * stretched
            return dr.normalize(mi.Vector3f(alpha * n.x, alpha * n.y, dr.maximum(n.z, 1e-6)))

    mi.register_bsdf(BSDF_NAME, lambda props: GltfBSDF(props))
