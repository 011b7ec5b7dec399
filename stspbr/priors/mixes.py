"""Words as what a net reads: which words, and the sum of the white references that their material is on average.

The ranges of a vocabulary say what a word's material reflects. So the sum need not be learned from pictures.
"""

from __future__ import annotations

import numpy as np

from stspbr.priors.lit_views import REFERENCES, ROUGHNESSES
from stspbr.priors.vocabulary import Caption, Material, Vocabulary
from stspbr.render.shading import DIELECTRIC_F0

MIX = 3 * REFERENCES
"""Coefficients of a material: of each reference in each colour."""
_STEPS = 9  # values of a range of roughness that are averaged over


def encoded(vocabulary: Vocabulary, caption: Caption) -> np.ndarray:
    """``[2, V + MIX]`` float32: of the first and the second material, ``Vocabulary.encode`` and ``mean_mix``."""
    mixes = np.zeros((2, MIX), np.float32)
    for row, material in enumerate((caption.first, caption.second)):
        if material is not None:
            mixes[row] = mean_mix(vocabulary, material).ravel()
    return np.concatenate([vocabulary.encode(caption), mixes], axis=1)


def mean_mix(vocabulary: Vocabulary, material: Material) -> np.ndarray:
    """``[3, REFERENCES]``: the coefficients of ``lit_views.reference_values``, as radiances, in the ranges' middle.

    Between two of ``ROUGHNESSES`` a lobe is taken as the mean of theirs.
    """
    ranges = vocabulary.ranges(material)
    albedo, count = 0.5 * (ranges.albedo[0] + ranges.albedo[1]), len(ROUGHNESSES)
    values = np.linspace(*ranges.roughness, _STEPS)
    lobes = np.array([np.interp(values, ROUGHNESSES, np.eye(count)[k]).mean() for k in range(count)])
    # both lobes are F0 · a + b: a metal of another colour than white has some of the gloss in the place of the mirror
    gloss = (1.0 - albedo) / (1.0 - DIELECTRIC_F0)
    metallic, mix = material.base.metallic, np.zeros((3, REFERENCES))
    mix[:, 0] = (1.0 - metallic) * albedo
    mix[:, 1 : 1 + count] = metallic * np.outer(1.0 - gloss, lobes)
    mix[:, 1 + count :] = np.outer(metallic * gloss + (1.0 - metallic), lobes)
    return mix
