"""The gateway before a server that exists: the how-to's own declaration, with another gateway as the server."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import bessemer.serve
from bessemer.core.errors import ConfigError
from bessemer.infer import EchoConfig, open_engine
from bessemer.meter import MeterConfig, open_ledger, open_meter
from bessemer.products.config import load_factory
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.serve import GatewayConfig, KeyStore, create_app
from bessemer.serve.work.batches import Batch
from bessemer.serve.work.jobs import Job
from bessemer.serve.work.records import Records

from .conftest import Line

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "upstream.md"
VARIABLE = "UPSTREAM_API_KEY"


BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def shown(server: str = "") -> str:
    """Return the declaration that the how-to shows; that of a server shows the product, the rest is the first one's."""
    whole, *products = BLOCKS
    if not server:
        return str(whole)
    (product,) = [each for each in products if server in each]
    return str(whole.partition("product:\n")[0] + product)


@pytest.fixture(scope="module")
def server(
    serve_app: Callable[[Any], AbstractContextManager[str]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str, Path]]:
    """Give the URL, a key and the books of the server: a gateway that knows one model, which echoes."""
    home = tmp_path_factory.mktemp("server")
    keys = KeyStore(home / "keys.sqlite")
    _, secret = keys.create("server")
    with open_meter(MeterConfig(sensors="model"), home / "books") as meter:
        app = create_app(GatewayConfig(), {"qwen3-8b": open_engine(EchoConfig(token_seconds=0.03))}, keys, meter)
        with serve_app(app) as url:
            yield url, secret, home / "books"
    keys.close()


def declared(folder: Path, url: str) -> Line:
    """Write the how-to's declaration, with the server's real address."""
    text = shown().replace("http://127.0.0.1:8080", url)
    assert url in text
    (folder / "factory.yaml").write_text(text, encoding="utf-8")
    return Line(folder / "state", folder / "factory.yaml")


@contextmanager
def up(line: Line, key: str) -> Iterator[dict[str, str]]:
    with line.up(environment={VARIABLE: key}, stderr=subprocess.PIPE) as (process, said):
        yield said
        process.terminate()
        _, complaints = process.communicate(timeout=30)
    assert process.returncode == 0, complaints
    assert "no line is run" in complaints
    assert "Traceback" not in complaints


def test_up_serves_the_model_of_a_server_that_exists(server: tuple[str, str, Path], tmp_path: Path) -> None:
    url, key, books = server
    line = declared(tmp_path, url)
    with (
        up(line, key) as said,
        openai.OpenAI(base_url=f"{said['url']}/v1", api_key=said["key"], admin_api_key=said["key"]) as client,
    ):
        with pytest.raises(openai.BadRequestError, match="Prices are in USD, and nothing in EUR"):
            client.admin.organization.spend_limit.update(currency="EUR", interval="month", threshold_amount=1)
        assert [model.id for model in client.models.list()] == ["assistant"] == [said["model"]]
        ask: Any = [{"role": "user", "content": "one two three"}]
        whole = client.chat.completions.create(model="assistant", messages=ask)
        stream = client.chat.completions.create(
            model="assistant", messages=ask, stream=True, stream_options={"include_usage": True}
        )
        pieces = list(stream)
        assert line.json("chat", "-m", "four five")["text"] == "four five"
        columns = {"n": {"kind": "number", "high": 99_999}, "a": {"kind": "written", "prompt": "of {n}"}}
        texts = {"model": "assistant", "dataset": {"rows": 2, "columns": columns}}
        gate = {"rules": [{"kind": "at_least", "metric": "contaminated", "value": 0.0}]}
        job: Any = client.post("/datasets", body={"texts": {**texts, "gate": gate}}, cast_to=object)
        while job["status"] not in ("succeeded", "failed"):
            job = client.get(f"/datasets/{job['id']}", cast_to=object)
            time.sleep(0.1)
        assert job["accepted_rows"] == 2, job
        rows = client.files.content(job["result_files"]["rows"]).text.splitlines()
        assert [json.loads(row)["a"].split()[0] for row in rows] == ["of", "of"]
    assert whole.choices[0].message.content == "one two three"
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "one two three"
    used = [row for row in line.json("usage", "--project", "default") if row["what"] == "requests"]
    mine, written = sorted(used, key=lambda row: str(row["model"]))
    assert (mine["model"], mine["entries"], mine["output_tokens"]) == ("assistant", 2, 6)
    assert mine["joules"] > 0
    assert (written["model"], written["entries"], written["output_tokens"]) == ("synthetic-texts", 1, 0)
    assert [check for check in line.json("reconcile", "--books") if not check["holds"]] == []
    ledger = open_ledger(books)
    (theirs,) = ledger.totals()
    ledger.close()
    assert (theirs.entries, theirs.usage.output_tokens) == (5, 12), "what is billed here is what the server counted"
    published = list((line.home / "artifacts" / "published").iterdir())
    assert len(published) == 1, "no line was run: there is the step of the job alone"
    held = [
        path for path in [line.factory, *line.home.rglob("*")] if path.is_file() and key.encode() in path.read_bytes()
    ]
    assert held == [], "the key stands nowhere"


def test_archiving_a_project_cancels_what_it_left_to_be_done(server: tuple[str, str, Path], tmp_path: Path) -> None:
    url, key, _ = server
    line = declared(tmp_path, url)
    talk = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
    ask = {"model": "assistant", "messages": [{"role": "user", "content": "word " * 50}]}
    way = {"method": "POST", "url": "/v1/chat/completions", "body": ask}
    sent = {"fine-tune": [talk] * 12, "batch": [{"custom_id": f"{number}", **way} for number in range(200)]}
    with (
        up(line, key) as said,
        openai.OpenAI(base_url=f"{said['url']}/v1", api_key="-", admin_api_key=said["key"]) as admin,
        closing(Records(line.home / "work" / "work.sqlite")) as records,
    ):
        secret = line.json("keys", "create", "--project", "shop")["key"]
        with admin.with_options(api_key=secret, admin_api_key="-") as shop:
            files = {
                purpose: shop.files.create(
                    file=("x.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose=purpose
                )
                for purpose, lines in sent.items()
            }  # type: ignore[call-overload]
            base = "smollm2-135m-instruct"
            jobs = [shop.fine_tuning.jobs.create(model=base, training_file=files["fine-tune"].id) for _ in range(2)]
            batch = shop.batches.create(
                input_file_id=files["batch"].id, endpoint="/v1/chat/completions", completion_window="24h"
            )

            def states() -> list[str]:
                found: list[Job | Batch] = [records.get("fine-tuning job", "shop", each.id, Job) for each in jobs]
                return [each.status for each in (*found, records.get("batch", "shop", batch.id, Batch))]

            def until(*wanted: str) -> None:
                end = time.monotonic() + 60
                while states() != list(wanted):
                    assert time.monotonic() < end, states()
                    time.sleep(0.05)

            until("running", "queued", "in_progress")
            assert admin.admin.organization.projects.archive("shop").status == "archived"
            with pytest.raises(openai.AuthenticationError):
                shop.batches.retrieve(batch.id)
            until("cancelled", "cancelled", "cancelled")


def test_ollama_as_the_page_declares_it(
    serve_app: Callable[[Any], AbstractContextManager[str]], tmp_path: Path
) -> None:
    """No key, a name with a tag, usage at a stream's end only when asked for, nothing told of cached tokens."""
    heard: list[tuple[str, bool]] = []

    async def answer(request: Request) -> Response:
        asked = await request.json()
        heard.append((asked["model"], "authorization" in request.headers))
        usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
        told = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": asked["model"]}
        said, ended = {"role": "assistant", "content": "a light"}, {"index": 0, "finish_reason": "stop"}
        if not asked.get("stream"):
            return JSONResponse({**told, "choices": [{**ended, "message": said}], "usage": usage})
        pieces: list[dict[str, Any]] = [{**told, "choices": [{**ended, "delta": said}]}]
        if (asked.get("stream_options") or {}).get("include_usage"):
            pieces.append({**told, "choices": [], "usage": usage})
        lines = [*(json.dumps(piece) for piece in pieces), "[DONE]"]
        return Response("".join(f"data: {line}\n\n" for line in lines), media_type="text/event-stream")

    with serve_app(Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])) as url:
        text = shown("11434")
        assert "http://127.0.0.1:11434/v1" in text
        (tmp_path / "factory.yaml").write_text(text.replace("http://127.0.0.1:11434", url), encoding="utf-8")
        line = Line(tmp_path / "state", tmp_path / "factory.yaml")
        with up(line, "") as said, openai.OpenAI(base_url=f"{said['url']}/v1", api_key=said["key"]) as client:
            ask: Any = [{"role": "user", "content": "What is a lantern?"}]
            whole = client.chat.completions.create(model="assistant", messages=ask)
            assert whole.choices[0].message.content == "a light"
            pieces = list(client.chat.completions.create(model="assistant", messages=ask, stream=True))
            assert "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices) == "a light"
    assert heard == [("qwen3:8b", False)] * 2
    (used,) = [row for row in line.json("usage") if row["what"] == "requests"]
    assert (used["entries"], used["input_tokens"], used["output_tokens"]) == (2, 14, 4)


def test_vllm_as_the_page_declares_it(tmp_path: Path) -> None:
    """The command and the declaration name the same port, model and key; the port is not the gateway's."""
    (tmp_path / "factory.yaml").write_text(shown("VLLM_API_KEY"), encoding="utf-8")
    config, _ = load_factory(tmp_path / "factory.yaml")
    engine: Any = config.product.engine
    (started,) = re.findall(r"^vllm serve (.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    port, name = (re.search(rf"--{option} (\S+)", started)[1] for option in ("port", "served-model-name"))
    assert (engine.base_url, engine.model) == (f"http://127.0.0.1:{port}/v1", name)
    assert int(port) != config.gateway.port == 8000
    assert f"export {engine.api_key_variable}=" in PAGE.read_text(encoding="utf-8")


def test_a_key_that_is_not_there_is_said_at_once(server: tuple[str, str, Path], tmp_path: Path) -> None:
    line = declared(tmp_path, server[0])
    said = line.json("up", str(line.factory), "--port", "0", status=1)["error"]
    assert VARIABLE in said["message"] and "export" in said["hint"]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("api_key: sk-123", "api_key_variable"),
        ("base_url: http://me:secret@host/v1", "base_url"),
        ("kind: vllm", "kind"),
    ],
)
def test_what_does_not_belong_into_the_declaration_is_refused(tmp_path: Path, line: str, word: str) -> None:
    key = line.partition(":")[0]
    kept = [each for each in shown().splitlines() if not each.strip().startswith(f"{key}:") or "llm" in each]
    (tmp_path / "factory.yaml").write_text("\n".join([*kept, f"    {line}"]), encoding="utf-8")
    with pytest.raises(ConfigError, match=word):
        load_factory(tmp_path / "factory.yaml")


@pytest.mark.parametrize(("host", "outside"), [("127.0.0.1", False), ("localhost", False), ("gpu.example.com", True)])
def test_joules_of_another_machine_are_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, outside: bool
) -> None:
    (tmp_path / "factory.yaml").write_text(shown().replace("127.0.0.1", host), encoding="utf-8")
    config, base = load_factory(tmp_path / "factory.yaml")
    meters: list[Any] = []

    def create(gateway: Any, engines: Any, keys: Any, meter: Any, parts: Any) -> None:
        keys.close()
        meters.append(meter._source())

    monkeypatch.setattr(bessemer.serve, "create_app", create)
    monkeypatch.setattr(bessemer.serve, "run_gateway", lambda *given: None)
    Factory(config, base, Home(tmp_path / "state")).serve(config.gateway, lambda url, key: None)
    assert (f"the machine of {host}" in meters[0]) is outside
