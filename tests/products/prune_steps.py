"""A step that leaves a file, and a version of a table if it is told to; or only a checkpoint."""

from __future__ import annotations

from bessemer.core.config import Config
from bessemer.flow import StepContext
from bessemer.lake import open_lake
from bessemer.products.rows import rows_tag


class MakeConfig(Config):
    """What tells two results apart, whether it fails, and which table it writes."""

    value: int = 0
    fails: bool = False
    table: str = ""


def make(ctx: StepContext, config: MakeConfig) -> dict[str, object]:
    """Leave a file of a thousand bytes."""
    with ctx.checkpoints.save() as folder:
        (folder / "state").write_text("half")
    if config.fails:
        raise RuntimeError("cut off")
    (ctx.out / "weights").write_bytes(b"x" * 1000)
    if not config.table:
        return {}
    open_lake(ctx.resources["lake"]).put(config.table, [{"value": config.value}], tag=rows_tag(ctx.key))
    return {"table": config.table}
