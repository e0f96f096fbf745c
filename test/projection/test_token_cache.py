import errno

import numpy as np
import pytest
import torch

from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.projection import token_cache
from geoseg_ros.projection.token_cache import TokenCache


def counting(calls):
    def work():
        calls.append(1)
        return {"a": torch.arange(6.0).reshape(2, 3).T, "n": torch.tensor([len(calls)])}

    return work


def test_what_was_worked_out_is_found_again_by_another_run(tmp_path):
    item, calls = np.arange(12, dtype=np.uint8).reshape(2, 2, 3), []
    made = TokenCache(tmp_path / "x", ("v1", 3)).remember("see", item, counting(calls))
    again = TokenCache(tmp_path / "x", ("v1", 3)).remember("see", item.copy(), counting(calls))
    assert len(calls) == 1 and again.keys() == made.keys()
    assert all(torch.equal(again[name], made[name]) for name in made)


def test_an_empty_result_is_a_result(tmp_path):
    calls = []
    for _ in range(2):
        assert TokenCache(tmp_path, 0).remember("see", np.zeros(3), lambda: calls.append(1) or {}) == {}
    assert len(calls) == 1


XYZ, RGB = np.arange(12, dtype=np.float32).reshape(4, 3), np.arange(12, dtype=np.uint8).reshape(4, 3)


@pytest.mark.parametrize(
    "about, step, item",
    [
        ("other", "see", Cloud(XYZ, RGB)),
        ("this", "judge", Cloud(XYZ, RGB)),
        ("this", "see", Cloud(XYZ, RGB + 1)),
        ("this", "see", Cloud(XYZ, None)),
        ("this", "see", Cloud(XYZ + 1, RGB)),
        ("this", "see", Cloud(XYZ, RGB, (2, 2))),
        ("this", "see", XYZ),
    ],
)
def test_another_item_step_or_setting_finds_nothing(tmp_path, about, step, item):
    calls = []
    TokenCache(tmp_path, "this").remember("see", Cloud(XYZ, RGB), counting(calls))
    TokenCache(tmp_path, about).remember(step, item, counting(calls))
    assert len(calls) == 2


@pytest.mark.parametrize("damage", [b"", b"no tensors", b"\xff" * 64])
def test_a_damaged_result_is_worked_out_again(tmp_path, damage):
    calls, known = [], TokenCache(tmp_path, 0)
    known.remember("see", XYZ, counting(calls))
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    assert int(known.remember("see", XYZ, counting(calls))["n"]) == 2
    assert int(known.remember("see", XYZ, counting(calls))["n"]) == 2 and len(calls) == 2


def test_a_folder_that_cannot_be_written_is_told_once_and_the_work_goes_on(tmp_path):
    (tmp_path / "file").write_text("in the way")
    calls, known = [], TokenCache(tmp_path / "file" / "x", 0)
    for _ in range(2):
        assert "a" in known.remember("see", XYZ, counting(calls))
    assert len(calls) == 2 and known.trouble.startswith(f"{tmp_path / 'file' / 'x'}: cannot keep")


def test_a_full_disk_gives_the_place_back_to_the_results(tmp_path, monkeypatch):
    known = TokenCache(tmp_path / "x", 0)
    known.remember("see", XYZ, counting([]))

    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(token_cache, "write_bytes", full)
    assert "a" in known.remember("see", RGB, counting([])) and "No space left" in known.trouble
    assert not (tmp_path / "x").exists()
