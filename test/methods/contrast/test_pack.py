import dataclasses
import json
import os
import pickle
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from geoseg_ros.backbones.tokens import Domain
from geoseg_ros.errors import InputError
from geoseg_ros.methods.contrast.pack import Concept
from geoseg_ros.methods.registry import open_method
from geoseg_ros.packs.pack import KEY, LARGEST, Pack
from geoseg_ros.runtime.pipeline import Pipeline, open_pipeline


@pytest.fixture
def pack_file(fake_packs, tmp_path):
    path = tmp_path / "red.pack"
    fake_packs["red"].save(path)
    return path


def parts(path):
    """Tensors and manifest of a pack file."""
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()[KEY])


def refused(path):
    """The one line with which a file is refused."""
    with pytest.raises(InputError) as caught:
        open_method("contrast").check(Pack.load(path))
    line = str(caught.value)
    assert str(path) in line
    assert "\n" not in line and len(line) < 600
    return line


def test_what_is_written_is_read_and_the_bytes_are_equal(fake_packs, pack_file, tmp_path):
    pack, file = fake_packs["red"], Pack.load(pack_file)
    assert (file.name, file.method, file.labels) == ("red", "contrast", ("red",))
    assert (file.backbone, file.backbone_hash) == (pack.backbone, pack.backbone_hash)
    assert file.info["training"] == pack.info["training"]
    made, read = Concept.from_pack(pack), Concept.from_pack(file)
    for field in ("foreground", "context"):
        assert torch.allclose(getattr(read.references, field), getattr(made.references, field), atol=1e-3)
    for half in (0, 1):
        assert torch.allclose(read.references.background[half], made.references.background[half], atol=1e-3)
    assert set(read.references.views) == set(made.references.views) == set(Domain)
    for domain in Domain:
        assert torch.allclose(read.references.views[domain].background[1], made.references.views[domain].background[1], atol=1e-3)
        assert torch.allclose(read.null_views[domain].tokens, made.null_views[domain].tokens, atol=1e-3)
        assert torch.equal(read.null_views[domain].size, made.null_views[domain].size)
    assert torch.equal(read.mean, made.mean)
    assert (read.references.size is None) == (made.references.size is None)
    again = tmp_path / "again.pack"
    assert file.save(again) == read.to_pack().version == file.version != ""
    assert again.read_bytes() == pack_file.read_bytes()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["again.pack", "red.pack"]  # nothing temporary is left


@pytest.mark.parametrize("keep", [0, 1, 8, 100, 0.5, 0.999])
def test_a_truncated_pack_is_refused(pack_file, keep):
    data = pack_file.read_bytes()
    pack_file.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])
    assert "pack" in refused(pack_file)


def test_changed_content_is_refused(pack_file):
    data = bytearray(pack_file.read_bytes())
    data[-100] ^= 1
    pack_file.write_bytes(data)
    assert "does not match its version" in refused(pack_file)


def test_a_newer_pack_is_refused_with_the_reason(pack_file):
    tensors, manifest = parts(pack_file)
    save_file(tensors, pack_file, {KEY: json.dumps({**manifest, "format": 99})})
    assert "newer" in refused(pack_file) and "99" in refused(pack_file)


def test_a_pack_of_another_backbone_is_refused_by_the_pipeline(fake_packs, fake_backbone, pack_file):
    other = dataclasses.replace(fake_packs["red"], backbone="other", backbone_hash="0" * 64)
    with pytest.raises(InputError, match=r"pack 'red': made with backbone other \(000000000000\).* fake \(fa4efa4efa4e\)"):
        Pipeline(fake_backbone, [other])
    with pytest.raises(InputError, match="backbone 'fake': expected one of"):
        open_pipeline([str(pack_file)])


class _Bomb:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_nothing_in_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    disguised = tmp_path / "pickle.pack"
    disguised.write_bytes(pickle.dumps(_Bomb()))
    refused(disguised)
    torch.save(_Bomb(), tmp_path / "torch.pack")
    refused(tmp_path / "torch.pack")
    assert not (tmp_path / "executed").exists()


def test_other_files_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "zip.pack", "w") as archive:
        archive.writestr("mean", "1")
    (tmp_path / "text.pack").write_text("a pack\n" * 100)
    (tmp_path / "empty.pack").write_bytes(b"")
    save_file({"mean": torch.zeros(3)}, tmp_path / "weights.pack", {"format": "pt"})
    for name in ("zip", "text", "empty", "weights"):
        assert "not a pack" in refused(tmp_path / f"{name}.pack")
    with pytest.raises(InputError, match="no such file, and not one of the shipped packs"):
        Pack.load(tmp_path / "absent.pack")
    with pytest.raises(InputError, match="is a folder, name a file of it"):
        Pack.load(tmp_path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "null", "[" * 100_000, '{"format": "one"}', '{"format": 1}', '{"format": null, "version": "x"}'],
    ids=["empty", "list", "cut", "null", "deep", "word", "bare", "no_format"],
)
def test_wrong_metadata_is_refused(pack_file, text):
    tensors, _ = parts(pack_file)
    save_file(tensors, pack_file, {KEY: text})
    refused(pack_file)


def test_a_pack_of_version_0_1_is_a_concept_of_the_contrast(pack_file):
    tensors, manifest = parts(pack_file)
    old = {key: value for key, value in manifest.items() if key not in ("method", "classes")}
    save_file(tensors, pack_file, {KEY: json.dumps({**old, "format": 2})})
    read = Pack.load(pack_file)
    assert (read.method, read.labels, read.version) == ("contrast", ("red",), manifest["version"])


def test_a_pack_of_a_method_that_is_not_here_is_refused_by_name(fake_packs, fake_backbone):
    foreign = dataclasses.replace(fake_packs["red"], method="another")
    with pytest.raises(InputError, match="method 'another': expected one of contrast"):
        Pipeline(fake_backbone, [foreign])
    with pytest.raises(InputError, match="pack 'red': made by the method another, not contrast"):
        open_method("contrast").check(foreign)


@pytest.mark.parametrize("field", ["name", "method", "classes", "backbone", "backbone_hash", "version", "format"])
@pytest.mark.parametrize("value", [None, "", 7, ["x"]], ids=str)
def test_wrong_manifest_fields_are_refused(pack_file, field, value):
    if (field, value) in (("format", 7), ("classes", ""), ("classes", ["x"])):
        return  # a newer pack, see above; no class, and one
    tensors, manifest = parts(pack_file)
    save_file(tensors, pack_file, {KEY: json.dumps({**manifest, field: value})})
    refused(pack_file)


def rewritten(path, change):
    """The pack with changed tensors and a version that fits them."""
    tensors, manifest = parts(path)
    change(tensors)
    save_file(tensors, path, {KEY: json.dumps({**manifest, "version": Pack("", "contrast", "", "", tensors).version})})


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("mean"),
        lambda t: t.pop("null.photos"),
        lambda t: t.pop("views.colour.other"),
        lambda t: t.update(mean=torch.zeros(5)),
        lambda t: t.update(foreground=torch.zeros(4, 5).half()),
        lambda t: t.update({"null.photos": torch.zeros(4, 27).half()}),
        lambda t: t.update({"background.0": torch.zeros(2, 2, 27).half()}),
        lambda t: t.update(context=torch.full((4, 27), float("nan")).half()),
    ],
    ids=["no_mean", "no_null", "half_a_view", "short_mean", "narrow", "flat_null", "deep", "nan"],
)
def test_tensors_that_do_not_fit_are_refused(pack_file, change):
    rewritten(pack_file, change)
    assert "not a concept pack, or a damaged one" in refused(pack_file)


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.pack"
    with open(path, "wb") as stream:
        stream.truncate(LARGEST + (1 << 20))  # sparse
    assert "MiB is no pack" in refused(path)
