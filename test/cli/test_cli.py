import json
import re
import subprocess
import sys

import pytest

from geoseg_ros import __version__
from geoseg_ros.cli.main import COMMANDS, main


def call(*arguments):
    """Exit code of the command, also where argparse ends it."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as end:
        return end.code


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    assert call(command, "--help") == 0
    text = capsys.readouterr().out
    assert re.search(rf"^example:\n  geoseg {command}\b", text, re.MULTILINE)
    assert "--json" in text
    assert not re.search(r"%\(|None\)", text)  # a default that was not filled in


def test_the_list_of_commands(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    assert all(command in text and line in " ".join(text.split()) for command, (_, line) in COMMANDS.items())
    assert call() == 2
    assert call("--version") == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["coseg"], ["coseg", "--out", "x", "--nonsense"], ["train", "--limit", "many"]])
def test_wrong_options_exit_with_2(arguments, capsys):
    assert call(*arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["coseg", "--out", "OUT"], "expected --images, --clouds, or both"),
        (["coseg", "--images", "absent", "--out", "OUT"], "absent: expected a folder of images, it does not exist"),
        (["coseg", "--clouds", "file.txt", "--out", "OUT"], "file.txt: expected a folder of clouds, this is a file"),
        (["coseg", "--images", "empty", "--out", "OUT"], "empty: no image found"),
        (["coseg", "--images", "pictures", "--out", "pictures"], "--out: pictures is also an input"),
        (["coseg", "--images", "pictures", "--out", "file.txt"], "--out: file.txt is a file"),
        (["coseg", "--images", "pictures", "--without", "empty", "--out", "OUT"], "empty: no image found"),
        (["coseg", "--images", "pictures", "--without-clouds", "pictures", "--out", "OUT"], "pictures: no cloud found"),
        (["coseg", "--images", "pictures", "--backbone", "resnet", "--out", "OUT"], "backbone 'resnet': expected one of"),
        (["coseg", "--images", "pictures", "--name", "", "--out", "OUT"], "--name: expected 1 to 64 printable characters"),
        (["coseg", "--images", "pictures", "--save-pack", "empty", "--out", "OUT"], "--save-pack: empty is a folder"),
        (["train", "--name", "mug", "--out", "mug.pack"], "expected --images, --clouds, or both"),
        (["train", "--name", "a\nb", "--images", "pictures", "--out", "mug.pack"], "--name: expected 1 to 64 printable characters"),
        (["train", "--name", "mug", "--images", "pictures", "--out", "empty"], "--out: empty is a folder"),
        (["train", "--name", "mug", "--images", "pictures", "--out", "file.txt/mug.pack"], "lies below a file"),
        (["train", "--name", "mug", "--images", "pictures", "--limit", "0", "--out", "mug.pack"], "--limit: expected 1 to 100000, got 0"),
        (["train", "--name", "mug", "--images", "absent.mcap", "--out", "mug.pack"], "absent.mcap: recording does not exist"),
        (["train", "--name", "mug", "--images", "broken.mcap", "--out", "mug.pack"], "broken.mcap: not a readable recording"),
        (["bank", "--every", "0"], "--every: expected 1 or more, got 0"),
        (["bank", "--pictures", "-1"], "--pictures: expected 0 .. 100000, got -1"),
        (["bank", "--images", "empty"], "empty: no images"),
        (["bank", "--out", "empty"], "--out: empty is a folder"),
        (["bank", "--backbone", "onnx:absent.onnx"], "absent.onnx"),
    ],
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_bad_input_exits_with_2_and_one_line(arguments, expected, as_json, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "one.png").write_bytes(b"")
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "broken.mcap").write_bytes(b"\x89MCAP0\r\n broken")
    assert call(*arguments, *(["--json"] if as_json else [])) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    line = json.loads(shown.err)["error"] if as_json else shown.err
    assert expected in line
    assert as_json or line.startswith(f"geoseg {arguments[0]}: ")
    assert not (tmp_path / "OUT").exists() and not (tmp_path / "mug.pack").exists()


def test_a_failure_that_is_not_the_users_exits_with_1(tmp_path, monkeypatch, capsys):
    from geoseg_ros.cli import bank
    from geoseg_ros.errors import GeosegError

    def fail(options):
        raise GeosegError("the engine\nbroke")

    monkeypatch.setattr(bank, "run", fail)
    assert call("bank") == 1
    assert capsys.readouterr().err == "geoseg bank: the engine broke\n"


def test_the_installed_command_ends_with_the_code_and_no_traceback(tmp_path):
    command = [sys.executable, "-m", "geoseg_ros.cli", "coseg", "--images", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert ended.stderr.startswith("geoseg coseg: ") and ended.stderr.count("\n") == 1


def test_the_node_says_so_where_there_is_no_ros():
    without = "import sys; sys.modules['rclpy'] = None; from geoseg_ros.cli.main import coseg_node; sys.exit(coseg_node())"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "expected ROS 2" in done.stderr and "rclpy" in done.stderr
