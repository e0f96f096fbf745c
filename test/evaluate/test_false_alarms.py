import json

import pytest

from geoseg_ros.cli.main import main
from geoseg_ros.evaluate.false_alarms import KINDS, ROOMS, false_alarms, markdown
from geoseg_ros.methods.contrast.config import CosegConfig
from geoseg_ros.runtime.pipeline import Pipeline, PipelineConfig

pytestmark = pytest.mark.slow


def rows(kinds):
    return [row for concepts in kinds.values() for row in concepts.values()]


def test_figures_are_shares_and_deterministic(fake_backbone, fake_packs):
    pipeline = Pipeline(fake_backbone, list(fake_packs.values()))
    made = false_alarms(pipeline, 2, 5, "tiny")
    assert list(made["figures"]) == list(ROOMS) and made["rooms"] == 2
    for kinds in made["figures"].values():
        assert set(kinds) == set(KINDS)
        for row in rows(kinds):
            shares = list(row["below"].values())
            assert shares == sorted(shares) and row["marked"] in (0, 0.5, 1)
    assert false_alarms(pipeline, 2, 5, "tiny") == made
    strict = Pipeline(fake_backbone, list(fake_packs.values()), PipelineConfig(coseg=CosegConfig(p_max=0.0)))
    assert all(row["marked"] == 0 for kinds in false_alarms(strict, 2, 5, "tiny")["figures"].values() for row in rows(kinds))
    assert markdown(made).count("| red |") == 3 * len(ROOMS)


def test_the_command_writes_both_files(tmp_path, capsys):
    out = tmp_path / "alarms.md"
    assert main(["evaluate", "--table", "false-alarms", "--items", "1", "--preset", "tiny", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told["figures"]["with new families"]["lidar"]) == {"stool", "lamp"}
    assert json.loads((tmp_path / "alarms.json").read_text())["figures"] == told["figures"]
    assert "false-alarms --packs stool lamp --items 1" in out.read_text()


@pytest.mark.parametrize("given", [["--items", "0"], ["--packs", "nothing"], ["--root", "."]])
def test_wrong_options_are_refused_in_one_line(given, capsys):
    assert main(["evaluate", "--table", "false-alarms", *given]) == 2
    assert capsys.readouterr().err.count("\n") == 1
