"""The adapter and its training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoseg_ros.errors import InputError
from geoseg_ros.learning.schedules import one_cycle
from geoseg_ros.methods.parts.adapter import Adapter, AdapterConfig, adapter_of, levelled, parameters
from geoseg_ros.methods.parts.training import (
    PRESETS,
    AdapterTraining,
    LabelledPair,
    contrastive,
    train_adapter,
    values_at,
    window_soft_argmax,
)
from geoseg_ros.runtime.engines.export import export_adapter


def test_the_papers_size():
    assert parameters([Adapter(AdapterConfig((640, 1280, 1280, 768), 768))]) == pytest.approx(5.14e6, rel=0.01)
    assert parameters([Adapter(AdapterConfig((768,), 768))]) == pytest.approx(0.63e6, rel=0.01)
    assert PRESETS["paper"].steps == 200_000 and PRESETS["paper"].labels == 50
    with pytest.raises(InputError, match="multiple of 128"):
        Adapter(AdapterConfig((64,), 200))


def test_untrained_it_gives_the_tokens_back_and_weights_come_back():
    tokens = torch.randn(2, 128, 5, 6)
    adapter = Adapter(AdapterConfig((128,), 128)).eval()
    torch.testing.assert_close(adapter(tokens), torch.nn.functional.normalize(levelled(tokens), dim=1))
    several = Adapter(AdapterConfig((64, 32), 128)).eval()
    again = adapter_of(several.config, several.state_dict())
    levels = (torch.randn(1, 64, 4, 4), torch.randn(1, 32, 4, 4))
    torch.testing.assert_close(again(*levels), several(*levels))
    with pytest.raises(InputError, match="do not fit"):
        adapter_of(AdapterConfig((64,), 128), several.state_dict())


def test_window_soft_argmax_sees_only_the_window():
    features = torch.zeros(3, 12, 12)
    features[0] = 1
    features[:, 4, 7] = torch.tensor([0.0, 1.0, 0.0])  # the place
    features[:, 4, 8] = torch.tensor([0.0, 0.9, 0.436])  # and its neighbour
    features[:, 11, 0] = torch.tensor([0.0, 0.99, 0.14])  # a rival far away
    query = torch.tensor([[0.0, 1.0, 0.0]])
    found = window_soft_argmax(query, features, temperature=0.02, window=0.3)
    assert found[0, 0] == pytest.approx(4, abs=1e-3) and 7 < found[0, 1] < 7.05
    assert window_soft_argmax(query, features, temperature=0.02, window=1.0)[0, 0] == pytest.approx(4, abs=1e-3)


def test_contrastive_loss_is_least_for_the_own_partner():
    own = torch.eye(6)
    assert contrastive(own, own, torch.tensor(20.0)) < 1e-4 < contrastive(own, own.flip(0), torch.tensor(20.0))


def test_values_between_cells():
    features = torch.nn.functional.normalize(torch.stack(torch.meshgrid(torch.arange(1.0, 5), torch.arange(1.0, 5), indexing="ij")), dim=0)
    found = values_at(features, torch.tensor([[2.0, 3.0], [0.0, 0.5]]))
    torch.testing.assert_close(found[0], features[:, 2, 3])
    middle = features[:, 0, 0] + features[:, 0, 1]
    torch.testing.assert_close(found[1], middle / middle.norm())


def test_one_cycle_rises_and_falls():
    factor = one_cycle()
    assert factor(0, 0) == pytest.approx(1 / 25) and factor(0, 0.3) == pytest.approx(1) and factor(0, 1) == pytest.approx(1e-4)
    assert factor(0, 0.1) < factor(0, 0.2) and factor(0, 0.5) > factor(0, 0.9)


def sided_pairs(count: int) -> list[LabelledPair]:
    """Tokens that are the same on the left and on the right but for their neighbours; labels say which side."""
    rng = np.random.default_rng(0)
    code = np.random.default_rng(9).normal(size=(3, 32))
    pairs = []
    for _ in range(count):
        maps, places = [], []
        for _ in range(2):
            row = int(rng.integers(3, 9))
            tokens = 0.3 * rng.normal(size=(12, 12, 32))
            for column in (3, 8):
                tokens[row, column] = 3 * code[0]
            tokens[row, 2], tokens[row, 9] = 3 * code[1], 3 * code[2]
            maps.append(tokens.astype(np.float32))
            places.append((np.array([[row, 3], [row, 8]]) + 0.5) / 12)
        pairs.append(LabelledPair(maps[0], maps[1], places[0], places[1], (0.5, 0.5)))
    return pairs


def found_side(pairs: list[LabelledPair], adapter: Adapter) -> float:
    right = []
    for pair in pairs:
        maps = [adapter(torch.from_numpy(t.transpose(2, 0, 1)[None]))[0] for t in (pair.first, pair.second)]
        source = values_at(maps[0], torch.from_numpy((pair.first_at * 12 - 0.5).astype(np.float32)))
        best = (source @ maps[1].flatten(1)).argmax(dim=1)
        right += ((best // 12 == int(pair.second_at[0, 0] * 12)) & (best % 12 == torch.tensor([3, 8]))).tolist()
    return float(np.mean(right))


@pytest.mark.train
def test_training_tells_sides_apart_by_what_is_beside_them():
    config = AdapterTraining(steps=100, grid=12, noise=0.0, rate=3e-3, dropout=0.05)
    learnt = train_adapter(sided_pairs(12), config)
    with torch.inference_mode():
        before, after = found_side(sided_pairs(40), Adapter(AdapterConfig((32,), 128)).eval()), found_side(sided_pairs(40), learnt)
    assert before < 0.75 and after > 0.95, (before, after)


def test_training_is_the_same_twice_and_needs_labels():
    config, pairs = AdapterTraining(steps=3, grid=12, labels=2), sided_pairs(2)
    first, second = (train_adapter(pairs, config).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(InputError, match="at least 2 pseudo labels"):
        train_adapter([], config)


@pytest.mark.slow
def test_onnx_gives_the_same_features(tmp_path):
    runtime = pytest.importorskip("onnxruntime", reason="runs ONNX files")
    pytest.importorskip("onnxscript", reason="exports networks")
    torch.manual_seed(0)
    adapter = Adapter(AdapterConfig((64, 128), 128)).eval()
    for block in adapter.blocks:
        torch.nn.init.normal_(block.body[-1].weight)
    export_adapter(adapter, (64, 128), tmp_path / "adapter.onnx")
    session = runtime.InferenceSession(str(tmp_path / "adapter.onnx"), providers=["CPUExecutionProvider"])
    for batch, rows, columns in ((1, 30, 30), (3, 4, 9)):
        levels = [torch.randn(batch, dim, rows, columns) for dim in (64, 128)]
        (found,) = session.run(None, {f"tokens{k}": level.numpy() for k, level in enumerate(levels)})
        with torch.inference_mode():
            np.testing.assert_allclose(found, adapter(*levels).numpy(), atol=2e-5)
