"""The tools that need no other room: each does what it says, and what is tried against it fails."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from bessemer.core.errors import ConfigError, Unsupported
from bessemer.infer.agents import Occasion, callable_tool
from bessemer.infer.agents import sandbox as sandbox_module
from bessemer.infer.agents.calculator import calculate, calculator
from bessemer.infer.agents.sandbox import python_tool, run_python, strong_isolation_lacks
from bessemer.infer.agents.sandbox_config import SandboxConfig


class Place(BaseModel):
    city: str
    zone: Literal["a", "b"] = "a"


def test_a_signature_becomes_a_schema_without_references() -> None:
    @callable_tool
    def go(to: Place, title: Annotated[int, Field(ge=1)] = 1) -> str:
        """Go somewhere.

        Args:
            to: where to, in
                two lines.
            title: what for.
        """
        return f"{to.city} {title}"

    schema = go.tool.parameters
    assert go.tool.description == "Go somewhere."
    assert schema["properties"]["to"]["properties"]["city"] == {"type": "string"}
    assert schema["properties"]["to"]["description"] == "where to, in two lines."
    assert schema["properties"]["title"]["minimum"] == 1, "a parameter called title is no title"
    assert "$ref" not in str(schema) and "$defs" not in schema
    assert go.call(go.read('{"to": {"city": "Oslo"}}'), Occasion()) == "Oslo 1"
    with pytest.raises(ConfigError, match="zone"):
        go.read('{"to": {"city": "Oslo", "zone": "c"}}')


def test_what_cannot_be_told_to_a_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no type"):
        callable_tool(lambda x: x)

    def many(*rest: int) -> None: ...

    with pytest.raises(ConfigError, match="has no type"):
        callable_tool(many)


async def test_secrets_and_insides_never_reach_the_model() -> None:
    from dataclasses import replace

    @callable_tool(timeout_seconds=0.2)
    async def tell(how: str) -> str:
        if how == "raise":
            raise RuntimeError("password hunter2 in /etc/app.conf")
        if how == "long":
            return "x" * 10_000
        import asyncio

        await asyncio.sleep(5 if how == "slow" else 0)
        return "the token is hunter2"

    made = replace(tell, secrets=("hunter2",))
    assert (await made.perform({"how": "say"}, Occasion())).output == "the token is [secret]"
    failed = await made.perform({"how": "raise"}, Occasion())
    assert failed.error == "backend_error" and "hunter2" not in failed.output and "/etc" not in failed.output
    assert (await made.perform({"how": "slow"}, Occasion())).error == "timeout"
    assert len((await made.perform({"how": "long"}, Occasion())).output) < 4_100


@pytest.mark.parametrize(
    ("expression", "value"), [("1 + 2 * 3", 7), ("-(2 ** 10) // 3", -342), ("sqrt(16) + max(1, 2)", 6.0), ("7 % 4", 3)]
)
def test_the_calculator_calculates(expression: str, value: float) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["__import__('os').system('id')", "().__class__", "9 ** 9 ** 9", "'a' * 99", "[1 for _ in x]", "1 / 0", "x", "1 +",
     "(lambda: 1)()", "2 ** 100000", "open('/etc/passwd')", "(" * 300 + "1" + ")" * 300, "True + 1", "(-8) ** 0.5"],
)  # fmt: skip
def test_the_calculator_does_nothing_else(expression: str) -> None:
    with pytest.raises(ConfigError):
        calculate(expression)
    assert calculator().trusted


strong = pytest.mark.skipif(bool(strong_isolation_lacks()), reason=f"no strong isolation: {strong_isolation_lacks()}")


@strong
def test_python_runs_and_has_the_standard_library() -> None:
    ran = run_python("import statistics, json\nprint(json.dumps(statistics.mean([1, 2, 3])))")
    assert (ran.ended, ran.output) == ("ok", "2\n")
    assert run_python("open('here.txt', 'w').write('x'); print(open('here.txt').read())").output == "x\n"
    failed = run_python("1 / 0")
    assert failed.ended == "failed" and "ZeroDivisionError" in failed.output


@strong
@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.socket()",
        "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
        "open('/etc/passwd').read()",
        "import os; os.listdir('/root' if os.path.exists('/root') else '/home')",
        "open('../out.txt', 'w')",
        "open('/tmp/out.txt', 'w')",
        "import os; os.listdir('/proc')",
        "import os; os.kill(os.getppid(), 0)",
        "import ctypes; l = ctypes.CDLL(None); assert l.ptrace(16, 1, 0, 0) == 0",
        "import ctypes; l = ctypes.CDLL(None); assert l.unshare(0x10000000) == 0",
        "import ctypes; l = ctypes.CDLL(None); assert l.syscall(425, 1, 0) >= 0",
        "import subprocess; subprocess.run(['/bin/sh', '-c', 'id'], check=True)",
        "import os; os.environ['HOME']",
        "open('big', 'wb').write(b'x' * (1 << 22))",
        "x = bytearray(1 << 30)",
    ],
)
def test_python_reaches_nothing(code: str) -> None:
    ran = run_python(code + "\nprint('REACHED')")
    assert ran.ended != "ok" and "REACHED" not in ran.output


@strong
def test_python_is_stopped_in_time() -> None:
    assert run_python("while True: pass", SandboxConfig(seconds=0.5)).ended == "timeout"
    flood = run_python("while True: print('x' * 1000)", SandboxConfig(file_bytes=1 << 16))
    assert flood.ended in ("failed", "killed") and len(flood.output) < 5_000


def test_what_this_machine_does_not_give_is_refused(monkeypatch: Any) -> None:
    monkeypatch.setattr(sandbox_module, "strong_isolation_lacks", lambda: "landlock")
    for refused in (lambda: run_python("print(1)"), python_tool):
        with pytest.raises(Unsupported, match="landlock"):
            refused()
    assert run_python("print(1)", SandboxConfig(isolation="limits")).output == "1\n"
