"""A closed vocabulary: the words of prompts, and the ranges of albedo, roughness and metallic that they stand for.

A prompt is a list of clauses between commas. A clause names a material, ``[FINISH] BASE [PATTERN]``, and with a pattern
that shows another one, ``with [FINISH] BASE``; or the material of a part, ``[FINISH] BASE PART``. A colour alone stands
for the first base that has it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np

from stspbr.errors import StspbrError

MAX_WORDS = 64
_FILLERS = frozenset({"a", "an", "the", "and", "of", "in", "made", "with"})
_SEPARATORS = re.compile(r"\bwith\b|\band\b")
_PATTERN_KINDS = ("none", "second", "roughness")
ANY_PATTERN = "plain"
_PLAIN = 0.25  # of the captions drawn have no pattern, besides those whose pattern is drawn as plain


@dataclass(frozen=True)
class Base:
    """A material: its ``words``, the range of its linear ``albedo`` (two times ``[3]``), and its ``metallic``."""

    words: tuple[str, ...]
    albedo: tuple[tuple[float, float, float], tuple[float, float, float]]
    metallic: float

    @property
    def name(self) -> str:
        return " ".join(self.words)


@dataclass(frozen=True)
class Material:
    """A material of a caption: ``base``, and a ``finish`` (None: any)."""

    base: Base
    finish: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        return ((self.finish,) if self.finish else ()) + self.base.words


@dataclass(frozen=True)
class Caption:
    """What a prompt says of one surface: a material, perhaps a second one, and the pattern in which it shows."""

    first: Material
    second: Material | None = None
    pattern: str = ANY_PATTERN

    def text(self) -> str:
        """The caption in words that ``Vocabulary.parse`` reads."""
        pattern = () if self.pattern == ANY_PATTERN else (self.pattern,)
        second = () if self.second is None else ("with", *self.second.words)
        return " ".join((*self.first.words, *pattern, *second))


@dataclass(frozen=True)
class Ranges:
    """What a material's words allow: lowest and highest albedo ``[3]``, roughness and metallic."""

    albedo: tuple[np.ndarray, np.ndarray]
    roughness: tuple[float, float]
    metallic: tuple[float, float]

    def distance(self, albedo: np.ndarray, roughness: float, metallic: float) -> dict[str, float]:
        """How far values are outside: the largest over the channels of albedo, roughness, metallic; 0 inside."""
        low, high = self.albedo
        outside = np.maximum(low - albedo, albedo - high).clip(0.0)
        return {
            "albedo": float(outside.max()),
            "roughness": _outside(roughness, self.roughness),
            "metallic": _outside(metallic, self.metallic),
        }


@dataclass(frozen=True)
class Vocabulary:
    """Words and what they mean.

    Attributes:
        finishes: range of roughness by word.
        patterns: what a pattern changes: ``none``, ``second`` (material) or ``roughness``, by word.
        synonyms: other words for those above.
        source: the TOML that it was read from.
    """

    finishes: Mapping[str, tuple[float, float]]
    patterns: Mapping[str, str]
    bases: tuple[Base, ...]
    synonyms: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def parse_toml(cls, text: str, where: str) -> Vocabulary:
        """A vocabulary from TOML; StspbrError names what is wrong in ``where``."""
        try:
            data = tomllib.loads(text)
            bases = tuple(_base(entry) for entry in data["bases"])
            finishes = {str(word): _range(value) for word, value in data["finishes"].items()}
            patterns = {str(word): str(kind) for word, kind in data["patterns"].items()}
            found = cls(finishes, patterns, bases, dict(data.get("synonyms", {})), text)
        except tomllib.TOMLDecodeError as error:
            raise StspbrError(f"{where}: not a TOML file: {error}") from None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StspbrError(
                f"{where}: not a vocabulary ({error}): give [finishes], [patterns] and [[bases]] as the shipped one has"
            ) from None
        found._check(where)
        return found

    @classmethod
    def read(cls, path: str | Path | None = None) -> Vocabulary:
        """The vocabulary of a TOML file; None: the shipped one."""
        if path is None:
            return cls.parse_toml((files("stspbr") / "priors" / "vocabulary.toml").read_text("utf-8"), "vocabulary")
        try:
            return cls.parse_toml(Path(path).read_text(encoding="utf-8"), str(path))
        except OSError as error:
            raise StspbrError(f"{path}: cannot read the vocabulary: {error.strerror}") from None

    def _check(self, where: str) -> None:
        if not self.bases or not self.finishes or ANY_PATTERN not in self.patterns:
            raise StspbrError(f"{where}: a vocabulary needs bases, finishes and the pattern {ANY_PATTERN!r}")
        if bad := [kind for kind in self.patterns.values() if kind not in _PATTERN_KINDS]:
            raise StspbrError(f"{where}: pattern {bad[0]!r}: choose {', '.join(_PATTERN_KINDS)}")
        if strange := [word for word in self.synonyms.values() if word not in self.words]:
            raise StspbrError(f"{where}: a synonym stands for {strange[0]!r}, which has no meaning")
        count = len(self.words) + len(self.synonyms)
        if count > MAX_WORDS:
            raise StspbrError(f"{where}: {count} words, but at most {MAX_WORDS} fit")

    @property
    def words(self) -> tuple[str, ...]:
        """Every word with a meaning of its own, in a fixed order: that of the encoding."""
        own = [*self.finishes, *self.patterns, *(word for base in self.bases for word in base.words)]
        return tuple(dict.fromkeys(own))

    def split(self, prompt: str, parts: Sequence[str] = ()) -> dict[str | None, str]:
        """The clauses of ``prompt`` by the part that each is about; None: all else.

        Args:
            parts: names of the object's parts; a clause that ends with one is about it.

        Raises:
            StspbrError: the prompt is empty, or two clauses are about one part.
        """
        named = {part.lower(): part for part in parts}
        out: dict[str | None, str] = {}
        for clause in filter(None, (clause.strip() for clause in prompt.split(","))):
            words = clause.split()
            part = named.get(words[-1].lower()) if len(words) > 1 else None
            text = " ".join(words[:-1]) if part is not None else clause
            if part in out:
                if part is not None:
                    raise StspbrError(f"--prompt: two clauses are about {part}")
                text = f"{out[None]} with {text}"
            out[part] = text
        if not out:
            raise StspbrError("--prompt is empty: describe the material, e.g. 'polished brass'")
        return out

    def parse(self, text: str, parts: Sequence[str] = ()) -> Caption:
        """The caption of one clause.

        Args:
            parts: names that were looked for, for the error.

        Raises:
            StspbrError: an unknown word (the nearest known one is named), or words that make no material.
        """
        pieces = [self._words(piece, parts) for piece in _SEPARATORS.split(text.lower())]
        pieces = [piece for piece in pieces if piece]
        if not pieces:
            raise StspbrError(f"the prompt {text!r} names no material: write for example 'polished brass'")
        patterns = [word for piece in pieces for word in piece if word in self.patterns and word != ANY_PATTERN]
        materials = [self._material(piece, text) for piece in pieces]
        if len(materials) > 2 or len(patterns) > 1:
            raise StspbrError(
                f"the prompt {text!r} has more than two materials or one pattern: use --part for the others"
            )
        second = materials[1] if len(materials) == 2 else None
        pattern = patterns[0] if patterns else ANY_PATTERN
        if second is not None and self.patterns[pattern] != "second":
            showing = [word for word, kind in self.patterns.items() if kind == "second"]
            raise StspbrError(f"the prompt {text!r} has two materials: say how the second shows ({', '.join(showing)})")
        return Caption(materials[0], second, pattern)

    def _words(self, piece: str, parts: Sequence[str]) -> list[str]:
        found = []
        for word in re.findall(r"[^\s,.;:]+", piece):
            word = self.synonyms.get(word, word)
            if word in self.words:
                found.append(word)
            elif word not in _FILLERS:
                raise unknown_word(word, [*self.words, *self.synonyms], parts)
        return found

    def _material(self, words: Sequence[str], text: str) -> Material:
        finishes = [word for word in words if word in self.finishes]
        own = {word for word in words if word not in self.finishes and word not in self.patterns}
        if len(finishes) > 1:
            raise StspbrError(f"the prompt {text!r} has two finishes of one material: {' and '.join(finishes)}")
        whole = [base for base in self.bases if set(base.words) == own]
        partial = [base for base in self.bases if own and own < set(base.words)]
        for base in (*whole, *partial):
            return Material(base, finishes[0] if finishes else None)
        known = ", ".join(base.name for base in self.bases)
        raise StspbrError(f"the prompt {text!r} names no material that the prior knows: choose one of {known}")

    def ranges(self, material: Material) -> Ranges:
        """What the words of a material allow."""
        spans = list(self.finishes.values())
        span = (
            self.finishes[material.finish] if material.finish else (min(s[0] for s in spans), max(s[1] for s in spans))
        )
        base = material.base
        low, high = (np.array(value) for value in base.albedo)
        metallic = (max(base.metallic - 0.05, 0.0), min(base.metallic + 0.05, 1.0))
        return Ranges((low, high), span, metallic)

    def encode(self, caption: Caption | None) -> np.ndarray:
        """``[2, V]`` float32: 1 for each word of the first material and the pattern, and of the second; None: zeros."""
        out = np.zeros((2, len(self.words)), np.float32)
        if caption is not None:
            place = {word: k for k, word in enumerate(self.words)}
            out[0, [place[word] for word in (*caption.first.words, caption.pattern)]] = 1.0
            if caption.second is not None:
                out[1, [place[word] for word in caption.second.words]] = 1.0
        return out

    def draw(self, rng: np.random.Generator) -> Caption:
        """A caption at random: most have a pattern, which is harder to learn; a fifth of them name no finish."""

        def material(other_than: Base | None = None) -> Material:
            choices = [base for base in self.bases if base is not other_than]
            finish = list(self.finishes)[rng.integers(len(self.finishes))]
            return Material(choices[rng.integers(len(choices))], None if rng.random() < 0.2 else finish)

        patterns = list(self.patterns)
        pattern = ANY_PATTERN if rng.random() < _PLAIN else patterns[rng.integers(len(patterns))]
        first = material()
        second = material(first.base) if self.patterns[pattern] == "second" else None
        return Caption(first, second, pattern)

    def every_plain(self) -> list[Caption]:
        """The captions of one material in each finish, in a fixed order."""
        return [Caption(Material(base, finish)) for base in self.bases for finish in self.finishes]


def unknown_word(word: str, known: Sequence[str], parts: Sequence[str] = ()) -> StspbrError:
    """The error for a word that a prior does not know, with the nearest known ones."""
    from difflib import get_close_matches

    near = get_close_matches(word, [*known, *parts], 3, 0.5)
    hint = f"; the nearest known: {', '.join(near)}" if near else f"; it knows {', '.join(known)}"
    held = f" (parts of the mesh: {', '.join(parts)})" if parts else ""
    return StspbrError(f"the prior does not know the word {word!r}{hint}{held}")


def _base(entry: dict) -> Base:
    low, high = (tuple(float(value) for value in row) for row in entry["albedo"])
    if len(low) != 3 or len(high) != 3 or not all(0 <= a <= b <= 1 for a, b in zip(low, high, strict=True)):
        raise ValueError(f"albedo of {entry['words']}: two rows of three numbers, 0 <= lowest <= highest <= 1")
    metallic = float(entry["metallic"])
    if not 0 <= metallic <= 1:
        raise ValueError(f"metallic of {entry['words']}: within 0 to 1")
    return Base(tuple(str(word) for word in entry["words"]), (low, high), metallic)


def _range(value: list[float]) -> tuple[float, float]:
    low, high = (float(item) for item in value)
    if not 0 <= low <= high <= 1:
        raise ValueError(f"roughness {value}: 0 <= lowest <= highest <= 1")
    return low, high


def _outside(value: float, span: tuple[float, float]) -> float:
    return max(span[0] - value, value - span[1], 0.0)
