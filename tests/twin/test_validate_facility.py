"""Published watts, PUE and switches are answered, or say why they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bessemer.twin import validate_facility as room
from bessemer.twin.evidence import Row
from bessemer.twin.validate import main

POWER = """id,system,workload_or_quantity,value,unit,gpus,notes,source,provenance
a,8x H100 HGX node,compute-intensive training mean,7752.0,W AC node,8,,x,read
b,8x H100 HGX node,"training, max observed",8480,W AC node,8,,x,read
c,8x XE9680 8xH100 (64 GPUs),mean during run,56840,"W AC, 8 nodes",64,,x,read
d,Lenovo SR680a V3 8xB200,Llama2-70B Offline,10401,W AC node,8,,x,read
e,NVIDIA 8xH200 MaxQ,Llama2-70B Offline,6155,W AC node,8,,x,read
f,NVIDIA 8xH200 MaxQ,idle-ish start of run,2407,W AC node,8,,x,read
g,DGX B200,rated maximum,14300,W,8,,x,read
h,Somebody's node,mean,5000,W AC node,8,,x,read
i,8x Q999 node,mean,5000,W AC node,8,,x,read
j,8x H100 node,mean,many,W AC node,8,,x,read
"""
PUE = """id,site,pue,cooling,source,provenance
a,Frontier,1.03,liquid,x,read
b,Google fleet,1.09,air,x,read
c,Somewhere,1.2,air,x,read
d,A warm hall,1.1,warm-water DLC 32 C,x,read
e,A cold hall,1.1,DLC 15 C,x,read
f,A hall,1.1,,x,read
"""
NETWORK = """id,name,gpus,switch_radix,link,leaf,spine,core,switches_total,notes
a,SuperPOD,4096,64,400G NDR,128,128,64,320,3-tier
b,multi-plane,131072,512,8x100G planes,4096,,,,2-tier
c,Q3400 3-tier max,746496,144,800G,,,,,k^3/4
d,cost sheet,4096,64,400G,,,,192,author assumption
e,Clos,24576,,400G,,,,,3-tier
"""


def answered(rows: list[Row]) -> dict[str, Row]:
    assert all((row.predicted is None) == bool(row.reason) for row in rows)
    return {row.id: row for row in rows}


def middle(row: Row) -> float:
    assert row.predicted is not None
    return row.predicted.mid


def test_watts_are_met_and_what_was_fitted_is_apart(tmp_path: Path) -> None:
    (tmp_path / "power.csv").write_text(POWER)
    found = answered(room.power_rows(tmp_path / "power.csv"))
    for name, watts in (("b", 8480), ("d", 10401)):
        assert found[name].family == room.WATTS
        assert middle(found[name]) == pytest.approx(watts, rel=0.1)
    assert {name for name, row in found.items() if row.family == room.FITTED_WATTS} == {"a", "c", "f"}
    assert middle(found["c"]) == pytest.approx(8 * middle(found["a"]))
    assert middle(found["f"]) < middle(found["a"])
    assert "capped" in found["e"].reason and "plug" in found["g"].reason
    assert "not told" in found["h"].reason and "Q999" in found["i"].reason and "cannot be read" in found["j"].reason


def test_halls_are_met_within_their_goals(tmp_path: Path) -> None:
    (tmp_path / "pue.csv").write_text(PUE)
    found = answered(room.pue_rows(tmp_path / "pue.csv"))
    assert (found["a"].family, found["b"].family) == (room.LIQUID, room.AIR)
    assert middle(found["a"]) == pytest.approx(1.03, abs=0.02)
    assert middle(found["b"]) == pytest.approx(1.09, abs=0.05)
    assert {name for name, row in found.items() if row.family == room.GUESSED} == set("cdef")
    assert middle(found["d"]) < middle(found["c"]) and middle(found["d"]) < middle(found["e"])
    assert "not told" in found["f"].reason


def test_switches_are_met_exactly_and_a_sheet_s_own_rule_is_apart(tmp_path: Path) -> None:
    (tmp_path / "network.csv").write_text(NETWORK)
    found = answered(room.network_rows(tmp_path / "network.csv"))
    assert [middle(found[name]) for name in "abc"] == [320, 4096, 746_496]
    assert found["a"].family == found["b"].family == room.SWITCHES
    assert found["d"].family == room.ASSUMED_SWITCHES and middle(found["d"]) == 320
    assert "no count" in found["e"].reason


def test_one_command_answers_all_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = []
    for kind, text in (("power", POWER), ("pue", PUE), ("network", NETWORK)):
        (tmp_path / f"{kind}.csv").write_text(text)
        words += [f"--{kind}", str(tmp_path / f"{kind}.csv")]
    assert main([*words, "--json"]) == 0
    families = {each["family"]: each for each in json.loads(capsys.readouterr().out)["families"]}
    assert families[room.SWITCHES]["mean"] == 0 and families[room.WATTS]["mean"] <= 0.10
    assert main(["--pue", str(tmp_path / "power.csv")]) == 1
    assert "has no column pue, site" in capsys.readouterr().err
