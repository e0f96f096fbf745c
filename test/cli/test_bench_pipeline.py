"""What the pipeline costs."""

import json

import pytest

from geoseg_ros.cli.main import main

pytestmark = pytest.mark.slow


def test_pipeline_is_measured_without_ros(capsys):
    assert main(["bench", "--pipeline", "--points", "2000", "20000", "--repeat", "2"]) == 0
    text = capsys.readouterr().out
    assert "p95 ms" in text and "to the power of" in text
    assert main(["bench", "--pipeline", "--points", "2000", "--repeat", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {(row["what"].split(",")[0], row["size"]): row for row in found["rows"]}
    assert set(rows) == {("cloud", 2000), *(("picture 640x480", n) for n in (1, 2, 4, 8))} and found["exponent"] is None
    assert all(0 < row["p50"] <= row["p95"] and row["processor"] > 0 for row in rows.values())


@pytest.mark.parametrize("bad", [["--repeat", "0"], ["--points", "0"]])
def test_bad_options_are_told(bad, capsys):
    assert main(["bench", "--pipeline", *bad]) == 2
    assert capsys.readouterr().err.count("\n") == 1
