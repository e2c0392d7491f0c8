"""What can be declared about the sandbox, apart from what starts processes."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bessemer.core.config import Config


class SandboxConfig(Config):
    """What code may take.

    Attributes:
        isolation: see this module; ``strong`` is refused where the kernel does not give it.
        seconds: of wall clock; of processor time at most as many, rounded up.
        memory_bytes: of address space.
        file_bytes: of one file that it writes, and of all that it prints.
        output_characters: that are taken of what it prints.
    """

    isolation: Literal["strong", "limits"] = "strong"
    seconds: Annotated[float, Field(gt=0, le=600)] = 5.0
    memory_bytes: Annotated[int, Field(ge=1 << 26)] = 1 << 29
    file_bytes: Annotated[int, Field(ge=4096)] = 1 << 20
    output_characters: Annotated[int, Field(ge=1, le=1_000_000)] = 4_000
