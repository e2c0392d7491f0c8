"""The state folder: whole writes, deployments, and a gateway that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bessemer.core.errors import BessemerError, ConfigError, NotFound
from bessemer.products.home import Deployment, Gateway, Home, write_whole


def test_a_deployment_replaces_the_earlier_one(tmp_path: Path) -> None:
    home = Home(tmp_path / "state")
    for run in ("one", "two"):
        home.deploy(Deployment(name="m", run=run, key="k", path="/p", deployed_at=1.0))
    assert [d.run for d in home.deployments()] == ["two"]


def test_a_home_is_its_owners_alone(tmp_path: Path) -> None:
    Home(tmp_path / "below" / "state")
    assert (tmp_path / "below" / "state").stat().st_mode & 0o777 == 0o700


def test_a_gateway_whose_process_ended_is_not_running(tmp_path: Path) -> None:
    home = Home(tmp_path)
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    home.announce(Gateway(url="http://127.0.0.1:1", pid=int(ended.stdout), models=("m",), started_at=0.0))
    assert home.gateway() is None


def test_a_gateway_withdraws_only_itself(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.announce(Gateway(url="http://127.0.0.1:1", pid=os.getpid(), models=("m",), started_at=0.0))
    home.withdraw(os.getppid())
    assert home.gateway() is not None
    home.withdraw(os.getpid())
    assert home.gateway() is None


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be made") as caught:
        Home(tmp_path / "file")
    assert "BESSEMER_HOME" in caught.value.hint


def test_no_receipt_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no run has finished"):
        Home(tmp_path).last_receipt()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_whole(path, "old")
    blocked = tmp_path / "kept.json" / "below"  # a file where a folder is needed
    with pytest.raises(BessemerError):
        write_whole(blocked, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["kept.json"]


def test_results_of_another_database_are_not_swept_away(tmp_path: Path) -> None:
    Home(tmp_path).claim_artifacts()
    Home(tmp_path).claim_artifacts()
    with pytest.raises(ConfigError, match="another database"):
        Home(tmp_path, "postgresql://elsewhere/flows").claim_artifacts()
