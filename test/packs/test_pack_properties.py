"""Any bytes in place of a pack: one InputError, or a pack that its method takes."""

import json
import warnings

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

pytest.importorskip("hypothesis", reason="hypothesis is not installed")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from geoseg_ros.errors import InputError
from geoseg_ros.methods.registry import open_method
from geoseg_ros.packs.pack import HEAD, KEY, Pack

MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def load(path) -> bool:
    """Whether it is a pack; only InputError of one line may come."""
    try:
        pack = Pack.load(path)
        open_method(pack.method).check(pack)
    except InputError as error:
        assert "\n" not in str(error) and str(error).isprintable() and len(str(error)) < 1000
        return False
    return True


@pytest.fixture(scope="module")
def good(fake_packs, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "red.pack"
    fake_packs["red"].save(path)
    assert load(path)
    return path


@MANY
@given(st.data())
def test_damaged_bytes(good, tmp_path, data) -> None:
    content = bytearray(good.read_bytes())
    head = 8 + int.from_bytes(content[:8], "little")  # most of the damage in the header, where it can mislead
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, head) | st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["change", "cut", "insert", "end"]))
        if how == "change":
            content[place] = data.draw(st.integers(0, 255))
        elif how == "insert":
            content[place:place] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            del content[place : place + data.draw(st.integers(1, 64)) if how == "cut" else None]
        if not content:
            break
        head = min(head, len(content) - 1)
    path = tmp_path / "damaged.pack"
    path.write_bytes(content)
    if load(path):
        assert Pack.load(path).tensors.keys() == Pack.load(good).tensors.keys()


@MANY
@given(field=st.sampled_from([*HEAD, "config", "training", "created", "more"]), value=JSON)
def test_manifest_with_any_value(good, tmp_path, field, value) -> None:
    with safe_open(good, "pt") as file:
        tensors, manifest = {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()[KEY])
    path = tmp_path / "changed.pack"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_file(tensors, path, {KEY: json.dumps(manifest | {field: value})})
    load(path)


@given(st.binary(max_size=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file(tmp_path, content) -> None:
    path = tmp_path / "any.pack"
    path.write_bytes(content)
    assert not load(path)
