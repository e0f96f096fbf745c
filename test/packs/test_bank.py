import dataclasses

import numpy as np
import pytest
import torch

from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.errors import InputError
from geoseg_ros.geometry.cloud import Cloud
from geoseg_ros.packs import bank
from geoseg_ros.simulation import background as rooms
from geoseg_ros.simulation import bank as background
from geoseg_ros.simulation.background import BackgroundConfig, background_clouds, background_pictures
from geoseg_ros.simulation.sets import make_set_config
from support.fake_world import CONFIG, picture


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """No shipped banks, and a cache of our own."""
    monkeypatch.setattr(bank, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_what_is_written_is_read(fake_bank, tmp_path):
    bank.save_bank(fake_bank, tmp_path / "bank")
    read = bank.load_bank(tmp_path / "bank")
    assert (read.backbone_hash, read.source) == (fake_bank.backbone_hash, fake_bank.source)
    assert torch.equal(read.mean, fake_bank.mean) and torch.allclose(read.photos, fake_bank.photos, atol=1e-3)
    assert torch.allclose(read.pictures, fake_bank.pictures, atol=1e-3)
    for domain in Domain:
        rows, made = read.proposals[domain], fake_bank.proposals[domain]
        assert torch.allclose(rows.tokens, made.tokens, atol=1e-3) and torch.equal(rows.size, made.size)
        assert torch.equal(read.clouds[domain], fake_bank.clouds[domain])
    bank.save_bank(read, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "bank").read_bytes()


def test_a_bank_holds_unit_tokens_and_both_ways_of_drawing(fake_bank):
    assert fake_bank.photos.shape == (24, bank.PHOTO_TOKENS, 27)
    assert torch.allclose(fake_bank.photos.norm(dim=-1), torch.ones(24, bank.PHOTO_TOKENS), atol=1e-3)
    (colour, clouds), (shaded, same) = fake_bank.views(Domain.COLOUR), fake_bank.views(Domain.SHADED)
    assert len(colour) == len(shaded) == len(clouds) >= 6 * 3 and torch.equal(clouds, same)
    assert torch.equal(colour.tokens[:, bank.VIEW_TOKENS :], shaded.tokens) and torch.equal(colour.size, shaded.size)
    assert clouds.unique().tolist() == list(range(6))


def test_organised_clouds_with_colour_are_also_pictures(fake_backbone):
    rgb = picture(1, ("green",))[0]
    row, column = np.mgrid[0 : rgb.shape[0], 0 : rgb.shape[1]]
    cloud = Cloud(np.stack([column / 100, row / 100, np.ones(row.shape)], 2).reshape(-1, 3), rgb.reshape(-1, 3), rgb.shape[:2])
    bare = Cloud(cloud.xyz, None, cloud.shape)
    made = bank.build_bank(fake_backbone, [rgb, picture(2, ("cyan",))[0]], [cloud, bare, Cloud(cloud.xyz, cloud.rgb)], "", CONFIG.scene)
    assert torch.equal(made.pictures, made.photos[:1])


def test_photographs_are_needed(fake_backbone):
    with pytest.raises(InputError, match="at least one photograph"):
        bank.build_bank(fake_backbone, [], [], "", CONFIG.scene)


@pytest.mark.parametrize("content", [b"", b"not a bank", b"\x80\x04\x95" * 50])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "bank"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a background bank"):
        bank.load_bank(path)
    with pytest.raises(InputError, match="no such file"):
        bank.load_bank(tmp_path / "absent")


def test_a_bank_is_made_once_and_then_found(fake_backbone, fake_bank, folders, monkeypatch):
    made = []

    def make(backbone, progress):
        made.append(backbone)
        progress(background.STAGE, 1, 1)
        return fake_bank

    monkeypatch.setattr(background, "make_bank", make)
    told = []
    background.open_bank(fake_backbone, lambda *step: told.append(step))
    assert torch.equal(background.open_bank(fake_backbone).mean, fake_bank.mean)
    assert len(made) == 1 and told == [(background.STAGE, 1, 1)]
    kept = folders / "cache" / "geoseg_ros" / "banks"
    assert [p.name for p in kept.iterdir()] == [f"{fake_backbone.hash[:16]}.safetensors"]


def test_a_shipped_bank_goes_first_and_another_backbones_is_not_taken(fake_backbone, fake_bank, folders):
    shipped, cached = bank.bank_paths(fake_backbone)
    bank.save_bank(dataclasses.replace(fake_bank, source="cached"), cached)
    bank.save_bank(dataclasses.replace(fake_bank, source="shipped"), shipped)
    assert background.open_bank(fake_backbone).source == "shipped"
    bank.save_bank(dataclasses.replace(fake_bank, backbone_hash=fake_bank.backbone_hash[:16] + "0" * 48), shipped)
    assert background.open_bank(fake_backbone).source == "cached"


def test_a_cache_that_cannot_be_written_is_no_failure(fake_backbone, fake_bank, folders, monkeypatch):
    (folders / "cache").write_text("a file where the folder should be")
    monkeypatch.setattr(background, "make_bank", lambda backbone, progress: fake_bank)
    assert background.open_bank(fake_backbone) is fake_bank


def test_a_damaged_cached_bank_is_made_again(fake_backbone, fake_bank, folders, monkeypatch):
    cached = bank.bank_paths(fake_backbone)[-1]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"half a ba")
    monkeypatch.setattr(background, "make_bank", lambda backbone, progress: fake_bank)
    assert background.open_bank(fake_backbone) is fake_bank
    assert bank.load_bank(cached).source == fake_bank.source


def test_the_procedural_background_lacks_the_families_and_is_deterministic(fake_backbone, fake_bank, monkeypatch):
    world = BackgroundConfig(pictures=2, lidar=1, depth=1, set_config=make_set_config("tiny"))
    pictures = list(background_pictures(world))
    assert [p.shape for p in pictures] == [(120, 160, 3)] * 2
    lidar, depth = background_clouds(world)
    assert lidar.rgb is None and lidar.shape is None
    assert depth.rgb is not None and depth.shape == (120, 160)
    assert all(np.array_equal(a, b) for a, b in zip(pictures, background_pictures(world), strict=True))

    assert {"chair", "office_chair", "stool", "armchair", "bench", "lamp"} <= set(world.absent)
    seen = set()
    make = rooms.make_image
    monkeypatch.setattr(rooms, "make_image", lambda *given: seen.update((item := make(*given)).families) or item)
    told = []
    made = background.make_bank(fake_backbone, [picture(0, ())[0]], "one", world, progress=lambda *step: told.append(step))
    assert seen and not seen & set(world.absent)
    assert len(made.photos) == 3 and "photographs: one" in made.source and told[-1] == (background.STAGE, 5, 5)
    assert all(len(made.proposals[domain]) > 0 for domain in Domain)


def test_bad_counts_and_families_are_refused():
    with pytest.raises(InputError, match="pictures: expected 0 .. 100000, got -1"):
        BackgroundConfig(pictures=-1)
    with pytest.raises(InputError, match="family cup: unknown"):
        BackgroundConfig(absent=("cup",))


@pytest.mark.parametrize("name", ["geoseg_tiny", "geoseg_base"])
def test_a_shipped_backbone_has_its_shipped_bank_and_packs(name):
    from geoseg_ros.backbones.registry import open_backbone
    from geoseg_ros.packs.pack import Pack

    backbone = open_backbone(name)
    for label in ("stool", "lamp"):
        Pack.load(f"{name}/{label}").check_backbone(name, backbone.hash)
    shipped = bank.load_bank(bank.bank_paths(backbone)[0])
    assert shipped.backbone_hash == backbone.hash and len(shipped.photos) >= 64
    for domain in Domain:
        halves = np.bincount(shipped.views(domain)[1].numpy() % 2, minlength=2)
        assert halves.min() >= 20  # null items of both halves
