"""Published failures are answered by what other systems showed, never by themselves."""

from pathlib import Path

import pytest

from bessemer.twin import hazards, validate_operations
from bessemer.twin.evidence import Row

TABLE = """id,system,gpus,gpu_type,days,quantity,value,unit,notes,source,provenance
a,Meta RSC-1,16384,A100,330,node failure rate,0.0065,failures per node-day,,x,read
b,Meta RSC-1,16384,A100,330,MTTF of 16384-GPU jobs (projected),1.8,hours,,x,read
c,Meta RSC-1,1024,A100,330,MTTF of 1024-GPU jobs,7.9,hours,,x,read
d,Meta RSC-1,1024,A100,330,ETTR of >1024-GPU runs,0.9,fraction,,x,read
e,Llama 3 405B,16384,H100,54,unexpected interruptions,419,count,,x,read
f,Llama 3 405B,16384,H100,54,effective training time,0.9,fraction,,x,read
g,Llama 3 405B,16384,H100,54,interruptions:CPU,2,count,,x,read
h,Somebody,,,,share of jobs that are slow,0.4,fraction,,x,read
i,Nobody,9472 nodes,,,system MTBF,11,hours,,x,read
"""


@pytest.fixture
def found(tmp_path: Path) -> dict[str, Row]:
    (tmp_path / "rows.csv").write_text(TABLE)
    return {row.id: row for row in validate_operations.rows(tmp_path / "rows.csv")}


def middle(row: Row) -> float:
    assert row.predicted is not None
    return row.predicted.mid


def test_every_row_is_answered_or_says_why(found: dict[str, Row]) -> None:
    assert list(found) == list("abcdefghi")
    assert all((row.predicted is None) == bool(row.reason) for row in found.values())
    assert {row.id for row in found.values() if row.reason} == {"g", "h", "i"}


def test_published_numbers_are_met(found: dict[str, Row]) -> None:
    assert middle(found["b"]) == pytest.approx(1.8, rel=0.05)
    assert middle(found["d"]) == pytest.approx(0.9, abs=0.03)
    assert middle(found["e"]) == pytest.approx(419, rel=0.35)
    assert middle(found["f"]) == pytest.approx(0.9, abs=0.03)


def test_a_system_does_not_predict_itself(found: dict[str, Row]) -> None:
    own = hazards.measured_rates()["Llama 3 405B"] * 2048 * 54
    assert own == pytest.approx(419)
    assert middle(found["e"]) != pytest.approx(419, rel=0.01)
    assert found["c"].family == validate_operations.FITTED != found["b"].family
