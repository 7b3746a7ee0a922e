"""Recipe files, and what is refused in them."""

from pathlib import Path
from typing import Any

import pytest

from sqap_vla_ros.config.files import ConfigurationError, config_directory, read_yaml
from sqap_vla_ros.config.recipe import RENAMED, Recipe, read_recipe
from sqap_vla_ros.config.settings import validate

FILES = sorted((config_directory() / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_file_is_valid_and_named_as_its_file(path: Path) -> None:
    assert validate(Recipe, read_yaml(path), str(path)).name == path.stem


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"weights": {"bits": 3}}, r"weights\.bits = 3.*4 or 8"),
        ({"weights": {"rounding": "random"}}, r"weights\.rounding = 'random'"),
        ({"activations": {"bits": 12}}, r"activations\.bits = 12.*4, 8 or 16"),
        ({"activations": {"bits": 16, "granularity": "tensor"}}, r"activations\.bits = 16 rounds nothing"),
        ({"activations": {"clip": 0}}, r"activations\.clip = 0"),
        ({"activations": {"clip": 1.5}}, r"activations\.clip = 1.5"),
        ({"activations": {"clip": float("nan")}}, r"activations\.clip = nan"),
        ({"activations": {"granularity": "group"}}, r"activations\.granularity = 'group'"),
        ({"activations": {"scoring_bits": 6}}, r"activations\.scoring_bits = 6"),
        ({"rotation": "all"}, r"rotation = 'all'"),
        ({"hadamard_block": 48}, r"hadamard_block = 48: expected a power of two"),
        ({"hadamard_block": 1}, r"hadamard_block = 1"),
        ({"smoothing": 1.1}, r"smoothing = 1.1"),
        ({"smoothing": -0.1}, r"smoothing = -0.1"),
        ({"towers": "w4a4"}, r"towers = 'w4a4'"),
        ({"mixed": {"target_bits": 0.1}}, r"mixed\.target_bits = 0.1"),
        ({"mixed": {"target_bits": 17}}, r"mixed\.target_bits = 17"),
        ({"name": ""}, r"name = ''"),
        ({"name": "../elsewhere"}, r"name = '../elsewhere'"),
        ({"rotate": "residual"}, r"'rotate' is not a setting; did you mean 'rotation'"),
        ({"mixed": {"target_bits": 4}, "rotation": "residual"}, r"mixed precision with rotation 'residual'"),
        ({"mixed": {"target_bits": 4}, "smoothing": 0.5}, r"mixed precision with smoothing"),
        ({"mixed": {"target_bits": 4}, "weights": {"rounding": "gptq"}}, r"mixed precision rounds to nearest"),
        (
            {
                "mixed": {"target_bits": 4},
                "weights": {"rounding": "nearest"},
                "activations": {"granularity": "channel"},
            },
            r"mixed precision needs activations\.granularity 'token' or 'tensor'",
        ),
    ],
)
def test_impossible_values_are_refused_in_words(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=f"my recipe: .*{sentence}"):
        validate(Recipe, {"name": "mine", **values}, "my recipe")


def test_a_recipe_needs_a_name() -> None:
    with pytest.raises(ConfigurationError, match="my recipe: name"):
        validate(Recipe, {}, "my recipe")


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({}, ""),
        ({"smoothing": 0.5}, ""),
        ({"mixed": {"target_bits": 4}, "weights": {"rounding": "nearest"}}, "mixed precision"),
        ({"activations": {"granularity": "channel"}}, "a static scale per channel"),
    ],
)
def test_what_cannot_be_done_without_frames_is_known(values: dict[str, Any], what: str) -> None:
    assert validate(Recipe, {"name": "mine", **values}, "my recipe").needs_frames == what


@pytest.mark.parametrize(("earlier", "present"), RENAMED.items())
def test_an_earlier_name_is_refused_with_the_present_one(earlier: str, present: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{present}'"):
        read_recipe(earlier)


def test_a_renamed_recipe_is_stored_as_before_and_read_under_its_present_name() -> None:
    for name, earlier in (
        ("w4a4-residual", "sqap-w4a4"),
        ("w4a4-online", "sqap-w4a4-online"),
        ("qk-rotation", "sqap-w4a4-paper"),
    ):
        recipe = read_recipe(name)
        stored = recipe.model_dump(mode="json")
        assert stored["name"] == earlier
        assert Recipe.model_validate(stored) == recipe
    assert read_recipe("qvla").model_dump()["name"] == "qvla"


def test_what_a_channel_is_smoothed_by_is_stored_only_where_it_is_not_the_largest_magnitude() -> None:
    assert read_recipe("w4a4").model_dump(mode="json")["smoothing_by"] == "power"
    assert "smoothing_by" not in read_recipe("w4a4-online").model_dump(mode="json")
