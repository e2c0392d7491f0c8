"""Which paths lead to files, jobs and batches.

Owns the table. Each endpoint has its own module.
"""

from __future__ import annotations

from starlette.routing import Route

from bessemer.serve.parts import GatewayParts
from bessemer.serve.serving import Floor
from bessemer.serve.wire.routes import wire_readers
from bessemer.serve.work.answering import BatchRunner, Tools
from bessemer.serve.work.batches_wire import BatchDesk
from bessemer.serve.work.datasets_wire import DatasetDesk
from bessemer.serve.work.desk import Desk
from bessemer.serve.work.files_wire import FileDesk, UploadDesk
from bessemer.serve.work.office import Work
from bessemer.serve.work.tuning_wire import JobDesk


def work_routes(floor: Floor, work: Work, runner: BatchRunner | None) -> list[Route]:
    """Return the paths of what clients leave to be done; without a runner there are no batches."""
    desk = Desk(floor.config, floor.keys)
    return [
        *FileDesk(desk, work.files).routes(),
        *UploadDesk(desk, work.uploads).routes(),
        *JobDesk(desk, work.jobs).routes(),
        *DatasetDesk(desk, floor.traffic, work.datasets).routes(),
        *(BatchDesk(desk, work.batches, runner.wake).routes() if runner else ()),
    ]


def open_runner(floor: Floor, parts: GatewayParts) -> BatchRunner | None:
    """Return what answers batches, if there is something to keep them and something that knows what was booked."""
    work = parts.work
    if work is None or parts.booked is None:
        return None
    return BatchRunner(
        Tools(
            floor=floor,
            readers=wire_readers(parts),
            batches=work.batches,
            booked=parts.booked,
            lock=work.lock("batches"),
            streams=work.config.batch_streams,
            idle_requests=work.config.idle_requests,
            max_lines=work.config.max_batch_requests,
            webhooks=parts.webhooks,
            is_archived=parts.accounts.projects.is_archived if parts.accounts else lambda project: False,
        )
    )
