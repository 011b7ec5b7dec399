"""Prompts: what they mean, what is unknown, and how they are encoded."""

import numpy as np
import pytest

from stspbr.errors import StspbrError
from stspbr.priors.vocabulary import MAX_WORDS, Caption, Vocabulary


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return Vocabulary.read()


def test_the_shipped_words_fit_and_their_captions_read_themselves(words):
    assert len(words.words) + len(words.synonyms) <= MAX_WORDS
    rng = np.random.default_rng(0)
    for caption in [*words.every_plain(), *(words.draw(rng) for _ in range(50))]:
        assert words.parse(caption.text()) == caption


def test_synonyms_and_fillers_change_nothing(words):
    assert words.parse("a shiny brass") == words.parse("polished brass")
    assert words.parse("matte black") == Caption(words.parse("rough black plastic").first)
    assert words.parse("Polished Brass, ".strip(", ")) == words.parse("polished brass")


def test_clauses_are_split_by_the_parts_of_the_object(words):
    found = words.split("polished brass, black Handle", ["handle", "body"])
    assert found == {None: "polished brass", "handle": "black"}
    caption = words.parse(words.split("white ceramic with black spots")[None])
    assert (caption.first.base.name, caption.second.base.name, caption.pattern) == (
        "white ceramic", "black plastic", "spotted",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("polished bras", "nearest known: brass"),
        ("polished brass handel", "handle"),
        ("polished", "names no material"),
        ("polished rough brass", "two finishes"),
        ("brass with copper", "say how the second shows"),
        ("", "names no material"),
    ],
)
def test_what_cannot_be_understood_is_one_line(words, prompt, expected):
    with pytest.raises(StspbrError) as error:
        words.parse(prompt, ["handle"])
    assert expected in str(error.value) and "\n" not in str(error.value)


def test_ranges_give_the_distance_of_values(words):
    ranges = words.ranges(words.parse("polished brass").first)
    inside = 0.5 * (ranges.albedo[0] + ranges.albedo[1])
    assert ranges.distance(inside, 0.1, 1.0) == {"albedo": 0.0, "roughness": 0.0, "metallic": 0.0}
    off = ranges.distance(ranges.albedo[1] + [0.0, 0.1, 0.02], 0.28, 0.5)
    assert off == pytest.approx({"albedo": 0.1, "roughness": 0.1, "metallic": 0.45}, abs=1e-6)


def test_the_encoding_tells_first_and_second_apart(words):
    code = words.encode(words.parse("rough clay spotted with polished gold"))
    assert code.shape == (2, len(words.words))
    first, second = ({words.words[k] for k in np.flatnonzero(row)} for row in code)
    assert first == {"rough", "clay", "spotted"} and second == {"polished", "gold"}
    assert not words.encode(None).any()


@pytest.mark.parametrize(
    "text", ["bases = 3", "[finishes]\na=[0.5,0.1]\n[patterns]\nplain='none'\n[[bases]]\nwords=['x']", "bases ="]
)
def test_a_broken_vocabulary_is_one_line(text):
    with pytest.raises(StspbrError, match="words.toml"):
        Vocabulary.parse_toml(text, "words.toml")


def test_the_words_are_listed_by_a_command():
    from typer.testing import CliRunner

    from stspbr.cli import app

    found = CliRunner().invoke(app, ["prior", "words"])
    assert found.exit_code == 0
    assert "polished" in found.output and "metallic 1" in found.output and "glossy" in found.output
