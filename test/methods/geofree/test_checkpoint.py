"""Files of trained networks: exact, atomic, and refused with one line when they are not what they should be."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from geoseg_ros.errors import InputError
from geoseg_ros.learning.checkpoint import HEAD
from geoseg_ros.learning.shape_pretraining import load_extractor
from geoseg_ros.methods.geofree.checkpoint import load_network, save_network
from geoseg_ros.methods.geofree.config import NetworkConfig, preset
from geoseg_ros.methods.geofree.predict import predict_clouds
from geoseg_ros.methods.geofree.training import fit
from geoseg_ros.settings import with_values
from support.network_worlds_train import FIT, NETWORK, extractor, small_set

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    torch.set_num_threads(1)
    config = replace(FIT, stage1=replace(FIT.stage1, epochs=1), stage2=replace(FIT.stage2, epochs=1), stage3=replace(FIT.stage3, epochs=1))
    fitted = fit([small_set("ball"), small_set("a b", 1)], config, extractor())
    path = tmp_path_factory.mktemp("checkpoint") / "network.safetensors"
    save_network(path, fitted.network, fitted.banks, ("geoseg_tiny", "ab" * 32), fitted.history.summary())
    return path, fitted


def test_a_network_survives_its_file(written):
    path, fitted = written
    network, banks, manifest = load_network(path)
    assert network.config == NETWORK and not network.training and list(banks) == ["ball", "a b"]
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in fitted.network.state_dict().items())
    assert manifest["backbone_hash"] == "ab" * 32 and manifest["info"]["epochs"] == {"1": 1, "2": 1, "3": 1}
    item = small_set("ball", 5).clouds[:1]
    a, b = (predict_clouds(network, item, banks["ball"])[0] for _ in range(2))
    assert np.array_equal(a.score, b.score) and a.presence == b.presence
    assert [p.name for p in path.parent.iterdir()] == [path.name]  # no temporary is left


def test_wrong_files_are_refused(written, tmp_path):
    path, _ = written
    with pytest.raises(InputError, match="no such file"):
        load_network(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="expected a file of kind 'dgcnn', got 'coseg'"):
        load_extractor(path)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a file of kind 'coseg', or a damaged one"):
        load_network(broken)
    from safetensors import safe_open

    with safe_open(path, "pt") as archive:
        manifest = json.loads(archive.metadata()[HEAD])
    tensors = load_file(path)
    for change, message in [
        ({"format": 99}, "format 99 is newer"),
        ({"config": {"no_such": 1}}, "damaged coseg weights"),
        ({"config": {"mgcm": {"squash": 3}}}, "damaged coseg weights"),
        ({"dim": 11}, "damaged coseg weights"),
        ({"concepts": ["a", "b", "c"]}, "damaged coseg weights"),
    ]:
        save_file(tensors, broken, {HEAD: json.dumps({**manifest, **change})})
        with pytest.raises(InputError, match=message) as error:
            load_network(broken)
        assert "\n" not in str(error.value)
    save_file(tensors, broken)
    with pytest.raises(InputError, match="not a file of kind 'coseg'"):
        load_network(broken)


def test_settings_survive_json():
    for name in ("default", "paper"):
        assert with_values(NetworkConfig(), json.loads(json.dumps(asdict(preset(name))))) == preset(name)
    assert with_values(NetworkConfig(), {"contrast": 7}) == replace(NetworkConfig(), contrast=7)
    for values in ({"contrast": "7"}, {"mgcm": {"exclude_self": 1}}):
        with pytest.raises(InputError):
            with_values(NetworkConfig(), values)
