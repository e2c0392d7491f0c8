"""Which paths lead to files, jobs and batches.

Owns the table. Each endpoint has its own module.
"""

from __future__ import annotations

from starlette.routing import Route

from bessemer.serve.config import GatewayConfig
from bessemer.serve.keys import KeyStore
from bessemer.serve.work.desk import Desk
from bessemer.serve.work.files_wire import FileDesk, UploadDesk
from bessemer.serve.work.office import Work
from bessemer.serve.work.tuning_wire import JobDesk


def work_routes(config: GatewayConfig, keys: KeyStore, work: Work) -> list[Route]:
    """Return the paths of what clients leave to be done."""
    desk = Desk(config, keys)
    return [
        *FileDesk(desk, work.files).routes(),
        *UploadDesk(desk, work.uploads).routes(),
        *JobDesk(desk, work.jobs).routes(),
    ]
