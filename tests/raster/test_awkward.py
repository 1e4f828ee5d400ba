"""Real rasters that trip programs up: each is read and rewritten faithfully, or refused in words."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "awkward.py"


def test_every_awkward_raster_is_kept_or_refused(real_data: Path) -> None:
    call = [sys.executable, BENCHMARK, real_data / "awkward", "--json"]
    ended = subprocess.run(call, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    rows = json.loads(ended.stdout)
    assert len(rows) >= 20
    assert [row["file"] for row in rows if row["copy"] != "identical"] == ["cog_gcps.tif"]
