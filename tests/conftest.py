"""What several rooms' tests share: databases for flow, a real small model, a server on the loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

PROGRAMS = Path(__file__).parent / "flow" / "programs"

# A job in a script's background ignores Ctrl-C, and so would the programs that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What is made once for all tests is dear where each process makes its own: these go to one process, and begin.
DEAR = {"line": ("tests/lines/",), "base": ("tests/conformance/test_engines.py", "tests/infer/test_accuracy.py")}


class _Shared(LoadFileScheduling):  # type: ignore[misc]
    """Shares the tests out to several processes, file by file, and what is dear as one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((name for name, folders in DEAR.items() if file.startswith(folders)), file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Shared:
    return _Shared(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(sum(DEAR.values(), ())))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Give the URL of a Postgres: the one that BESSEMER_TEST_POSTGRES names, or one of our own for this session."""
    if url := os.environ.get("BESSEMER_TEST_POSTGRES"):
        yield url
        return
    initdb = shutil.which("initdb") or next(
        (str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), ""
    )
    if not initdb:
        why = "no Postgres: install it (Debian: postgresql) or set BESSEMER_TEST_POSTGRES to a URL"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="bessemer-pg-", ignore_cleanup_errors=True) as folder:
        yield from _private_server(Path(initdb).parent, Path(folder))


def _private_server(binaries: Path, folder: Path) -> Iterator[str]:
    user: list[str] = []
    if os.geteuid() == 0:  # Postgres refuses to run as root
        shutil.chown(folder, "postgres")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
        user = user if shutil.which("setpriv") else ["runuser", "-u", "postgres", "--"]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data, log = str(folder / "data"), str(folder / "log")

    def call(*command: str) -> None:
        done = subprocess.run([*user, *command], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    call(str(binaries / "initdb"), "-D", data, "-U", "bessemer", "-A", "trust", "-E", "UTF8", "--no-sync")
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c fsync=off"
    pg_ctl = str(binaries / "pg_ctl")
    call(pg_ctl, "start", "-w", "-D", data, "-l", log, "-o", options)
    try:
        yield f"postgresql://bessemer@127.0.0.1:{port}/postgres"
    finally:
        call(pg_ctl, "stop", "-w", "-D", data, "-m", "immediate")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give the URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'flow.sqlite'}"
    else:
        with empty_schema(request.getfixturevalue("postgres_server")) as url:
            yield url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Give the URL of an empty schema in a Postgres."""
    with empty_schema(postgres_server) as url:
        yield url


@contextmanager
def empty_schema(server: str) -> Iterator[str]:
    """Give the URL of an empty schema in a Postgres; it is dropped at the end of the block."""
    import psycopg

    schema = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}")
        yield f"{server}{'&' if '?' in server else '?'}options=-csearch_path%3D{schema}"
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the folder of the step functions and coordinators that flow's tests run, and make it importable."""
    monkeypatch.syspath_prepend(str(PROGRAMS))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(PROGRAMS), *filter(None, sys.path)]))
    return PROGRAMS


@pytest.fixture(scope="session")
def base_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the packaged base model as a folder: the one that BESSEMER_TEST_BASE names, or a fresh import."""
    if folder := os.environ.get("BESSEMER_TEST_BASE"):
        return Path(folder)
    from bessemer.models.base import import_base

    folder_made = tmp_path_factory.mktemp("base") / "model"
    import_base("smollm2-135m-instruct", folder_made)
    return folder_made


@pytest.fixture(scope="session")
def compiled_model(base_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the packaged base model compiled with int8 weights, for the embedded engine."""
    from bessemer.infer import compile_model

    out = tmp_path_factory.mktemp("compiled") / "engine"
    compile_model(base_model, out)
    return out


@contextmanager
def _serve(app: Any) -> Iterator[str]:
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serve_app() -> Callable[[Any], AbstractContextManager[str]]:
    """Give what serves an ASGI app on a free port of the loopback within a `with` block, which gets the URL."""
    return _serve
