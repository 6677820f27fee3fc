"""Options from settings models, and validation errors as sentences."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from acdtask.cli.options import options_of, settings_from
from acdtask.errors import AcdError, ErrorCode


def _short(text: str) -> str:
    if len(text) > 8:
        raise ValueError(f"{text!r} is longer than 8 characters")
    return text


class Everything(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="where from")
    name: Annotated[str, AfterValidator(_short)] = Field(default="annual", description="what it is called")
    min_area: int | None = Field(default=None, ge=0, description="smallest patch")
    low: float = Field(default=1.7, gt=0, description="lower threshold")
    keep: bool = Field(default=True, description="keep it")
    method: Literal["nearest", "cubic"] | None = Field(default=None, description="how")
    scale: Literal[1, 2, 4] = Field(default=1, description="how much")
    start: datetime | None = Field(default=None, description="since when")
    day: date = Field(default=date(2021, 1, 2), description="which day")
    dates: tuple[str, ...] = Field(default=(), description="which dates")
    levels: list[int] = Field(default=[1, 2], description="which levels")
    bounds: tuple[float, float] | None = Field(default=None, description="from and to")
    tags: dict[str, str] = Field(default={}, description="tags to add")

    @model_validator(mode="after")
    def _ordered(self) -> Everything:
        if self.bounds and self.bounds[0] >= self.bounds[1]:
            raise ValueError("the first of bounds is not below the second")
        return self


def refusal(given: dict[str, Any], file: Path | None = None) -> AcdError:
    with pytest.raises(AcdError) as caught:
        settings_from(Everything, given, file)
    return caught.value


def test_every_field_is_an_option_in_kebab_case() -> None:
    assert [option.declaration for option in options_of(Everything)] == [
        "--source",
        "--name",
        "--min-area",
        "--low",
        "--keep/--no-keep",
        "--method",
        "--scale",
        "--start",
        "--day",
        "--dates",
        "--levels",
        "--bounds",
        "--tags",
    ]


def test_help_has_the_description_and_the_default() -> None:
    told = {option.field: option.help for option in options_of(Everything)}
    assert told["source"] == "Where from  [required]"
    assert told["low"] == "Lower threshold  [default: 1.7]"
    assert told["keep"] == "Keep it  [default: yes]"
    assert told["day"] == "Which day  [default: 2021-01-02]"
    assert told["levels"] == "Which levels  [repeatable; default: 1 2]"
    assert told["min_area"] == "Smallest patch"


def test_texts_become_the_types_of_the_model() -> None:
    settings = settings_from(
        Everything,
        {
            "source": " folder ",
            "min_area": "100",
            "low": "2.5",
            "keep": False,
            "method": "cubic",
            "start": "2021-06-01T00:00:00Z",
            "dates": ["2021-01-01", "2021-01-07"],
            "bounds": ("0", "1.5"),
            "tags": ["orbit=ascending", "note=a=b"],
        },
    )
    assert settings.source == "folder"
    assert settings.min_area == 100
    assert settings.low == 2.5
    assert settings.keep is False
    assert settings.start == datetime(2021, 6, 1, tzinfo=UTC)
    assert settings.dates == ("2021-01-01", "2021-01-07")
    assert settings.bounds == (0.0, 1.5)
    assert settings.tags == {"orbit": "ascending", "note": "a=b"}
    assert settings.day == date(2021, 1, 2)


@given(
    low=st.floats(min_value=1e-6, max_value=1e6),
    min_area=st.none() | st.integers(min_value=0, max_value=10**9),
    keep=st.booleans(),
    dates=st.lists(st.sampled_from(["a", "b", "c"]), max_size=3),
    tags=st.dictionaries(st.sampled_from("abc"), st.sampled_from(["", "x", "y=z"]), max_size=3),
)
def test_what_is_typed_is_what_the_model_holds(
    low: float, min_area: int | None, keep: bool, dates: list[str], tags: dict[str, str]
) -> None:
    typed = {
        "source": "s",
        "low": repr(low),
        "min_area": None if min_area is None else str(min_area),
        "keep": keep,
        "dates": dates,
        "tags": [f"{key}={value}" for key, value in tags.items()],
    }
    expected = Everything(source="s", low=low, min_area=min_area, keep=keep, dates=tuple(dates), tags=tags)
    assert settings_from(Everything, typed) == expected


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"min_area": "-5"}, "--min-area is -5, and should be greater than or equal to 0"),
        ({"min_area": "few"}, "--min-area is few, and should be a valid integer"),
        ({"low": "0"}, "--low is 0, and should be greater than 0"),
        ({"name": "much too long"}, "--name: 'much too long' is longer than 8 characters"),
        ({"bounds": ("2", "1")}, "the first of bounds is not below the second"),
        ({"tags": ["orbit"]}, "--tags is 'orbit', but must be KEY=VALUE"),
        ({"levels": ["1", "x"]}, "--levels is x, and should be a valid integer"),
        ({"min_area": "-5", "low": "x"}, "; --low is x, and should be a valid number"),
    ],
)
def test_a_wrong_value_is_told_in_a_sentence_with_its_option(given: dict[str, Any], sentence: str) -> None:
    error = refusal({"source": "s", **given})
    assert error.code is ErrorCode.SETTING_INVALID
    assert sentence in error.detail
    assert "pydantic" not in str(error)
    assert "\n" not in str(error)


def test_a_missing_option_is_a_mistake_of_usage() -> None:
    error = refusal({"low": "2"})
    assert error.code is ErrorCode.USAGE
    assert error.detail == "--source must be given"


@pytest.mark.parametrize("name", ["settings.json", "settings.toml"])
def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    values = {"source": "from-file", "min-area": 7, "low": 2.5}
    toml = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    file.write_text(toml if name.endswith("toml") else json.dumps(values))
    settings = settings_from(Everything, {"low": "3.5", "min_area": None}, file)
    assert (settings.source, settings.min_area, settings.low, settings.name) == ("from-file", 7, 3.5, "annual")


def test_a_settings_file_that_is_wrong_says_how(tmp_path: Path) -> None:
    absent = refusal({}, tmp_path / "absent.json")
    assert absent.code is ErrorCode.INPUT_MISSING
    file = tmp_path / "settings.json"
    file.write_text('{"source": ')
    assert f"{file} is not JSON" in refusal({}, file).detail
    file.write_text("[1]")
    assert f"{file} does not contain a table of settings" in refusal({}, file).detail
    file.write_text('{"source": "s", "min_aera": 3}')
    assert refusal({}, file).detail == "there is no setting 'min_aera'; did you mean 'min_area'?"


def test_a_type_without_a_form_on_the_command_line_is_refused_at_once() -> None:
    class Nested(BaseModel):
        inner: Everything

    with pytest.raises(TypeError, match="inner"):
        options_of(Nested)
