"""Options that mirror settings."""

import argparse
from dataclasses import dataclass

import pytest

from geoseg_ros.cli.setting_options import add_setting, settings_from_options
from geoseg_ros.errors import InputError
from geoseg_ros.settings import Settings, list_settings, setting


@dataclass(frozen=True)
class Config(Settings):
    frame_rate: float = setting(5.0, "frames per second", unit="Hz", range=(0.5, 100.0))
    length: float | None = setting(None, "how long, 100 % of it", unit="s", range=(0.0, 10.0))
    mode: str = setting("fast", "how well", choices=("fast", "good"))
    names: tuple[str, ...] = setting(("a", "b"), "of what")
    loop: bool = setting(False, "again and again")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "good" and self.loop:
            raise InputError("good objects end")


NAMES = [entry.name for entry in list_settings(Config())]


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    add_setting(made, Config, "frame_rate", metavar="HZ")
    add_setting(made, Config, "length")
    add_setting(made, Config, "mode")
    add_setting(made, Config, "names", "--of", "NAME")
    add_setting(made, Config, "loop")
    return made


def test_defaults_and_help_come_from_the_setting(parser: argparse.ArgumentParser) -> None:
    assert settings_from_options(Config(), parser.parse_args([]), *NAMES) == Config()
    text = " ".join(parser.format_help().split())
    assert "--frame-rate HZ frames per second (default 5.0)" in text
    assert "how long, 100 % of it, s" in text and "default None" not in text
    assert "--mode {fast,good} how well (default fast)" in text and "of what (default a b)" in text


def test_values(parser: argparse.ArgumentParser) -> None:
    given = parser.parse_args(["--frame-rate", "7", "--length", "3", "--mode", "good", "--of", "c", "d", "e"])
    assert settings_from_options(Config(), given, *NAMES) == Config(7.0, 3.0, "good", ("c", "d", "e"))
    assert settings_from_options(Config(), given, "length") == Config(length=3.0)


def test_bad_values_name_the_option(parser: argparse.ArgumentParser) -> None:
    with pytest.raises(InputError, match="^--frame-rate: expected 0.5 .. 100 Hz, got 0.0$"):
        settings_from_options(Config(), parser.parse_args(["--frame-rate", "0"]), *NAMES)
    with pytest.raises(InputError, match="^good objects end$"):
        settings_from_options(Config(), parser.parse_args(["--mode", "good", "--loop"]), *NAMES)
    with pytest.raises(SystemExit):
        parser.parse_args(["--mode", "best"])
