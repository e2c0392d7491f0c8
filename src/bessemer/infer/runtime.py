"""The one door to OpenVINO: import its modules from here, never directly.

`import openvino` sends a usage event to its maker in a forked process and writes into the user's home, unasked
(2026.4, `openvino/tools/ovc/__init__.py`). Without its telemetry package it uses a silent stub of its own, so that
package is made impossible to import first.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None makes an import fail, says `import`

import openvino  # noqa: E402
import openvino_genai as genai  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

__all__ = ["genai", "openvino", "ops"]
