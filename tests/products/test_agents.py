"""The agent as a product: its domain, what it learns from, how its tools are declared and opened."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from bessemer.core.acting import Asker
from bessemer.core.errors import ConfigError, NotFound
from bessemer.core.nouns import Artifact, ChatRequest, Message, Usage
from bessemer.core.ranking import Ranked, Ranking, RankRequest, Reason
from bessemer.core.raw import EmbedRequest, EmbedResult
from bessemer.evals import BetterThan, GateConfig, Metric, Report, Score, World, decide, run_trials
from bessemer.infer import EchoConfig, calling, open_engine
from bessemer.infer.agents import AgentConfig, AgentEngine, AgentParts, Occasion
from bessemer.lake import open_lake
from bessemer.meter import PriceBook
from bessemer.products.agent import vectors
from bessemer.products.agent.config import AgentProductConfig, ToolConfig
from bessemer.products.agent.desk import DESK, practices
from bessemer.products.agent.learning import Teacher, teach
from bessemer.products.agent.product import AgentProduct
from bessemer.products.agent.serving import open_agent, open_tool
from bessemer.products.counted import Counted
from bessemer.products.home import Deployment
from bessemer.products.llm.config import EncoderConfig
from bessemer.products.product import Finished, LakeState, Opening, Place
from bessemer.products.rows import rows_tag


def place(tmp_path: Path, products: Mapping[str, Any] | None = None) -> Place:
    lake = str(tmp_path / "lake")
    return Place("shop", "clerk", False, tmp_path, lake, {}, products or {})


def opening(tmp_path: Path, **engines: Any) -> Opening:
    return Opening(str(tmp_path / "lake"), engines, tmp_path / "state", secret=lambda name: f"secret of {name}")


class TestDesk:
    async def test_every_task_is_solved_by_its_own_calls_and_by_nothing(self) -> None:
        tasks = [*practices("train", 60), *practices("heldout", 60)]
        solutions = {task.trial.question: task for task in tasks}

        def solving(world: World) -> AgentEngine:
            class Asked(Teacher):
                def __init__(self) -> None:
                    super().__init__((), "")

                async def stream(self, request: ChatRequest, /) -> Any:
                    if request.messages[-1].role == "user":
                        task = solutions[request.messages[-1].content]
                        self._calls, self._answer = list(task.calls), task.answer
                    async for piece in super().stream(request):
                        yield piece

            return AgentEngine(Asked(), DESK.tools(world))

        trials = list({task.trial.question: task.trial for task in tasks}.values())
        solutions = {task.trial.question: task for task in tasks if task.trial in trials}
        tried = await run_trials(solving, trials)
        assert [trial.id for trial in trials if not tried.attempts[trial.id][0].solved] == []
        idle = await run_trials(lambda world: AgentEngine(Teacher((), "Done."), DESK.tools(world)), trials)
        assert idle.report.metric("solved").value < 0.05

    def test_held_out_tasks_share_nothing_with_those_learnt_from(self) -> None:
        told = {split: [task.trial for task in practices(split, 200)] for split in ("train", "heldout")}  # type: ignore[arg-type]
        for table, column in (("orders", "customer"), ("orders", "id"), ("orders", "item"), ("stock", "item")):
            seen = [{row[column] for t in trials for row in t.start.tables[table]} for trials in told.values()]
            assert not seen[0] & seen[1]
        assert not {t.question for t in told["train"]} & {t.question for t in told["heldout"]}
        assert len({t.group for t in told["heldout"]}) == 15

    async def test_what_is_learnt_is_what_the_model_reads_and_writes(self) -> None:
        taught = await teach(practices("train", 10), DESK.tools, AgentConfig(instructions=DESK.instructions))
        assert len(taught.talks) == 10 and not taught.refused
        talk = taught.talks[0]
        assert [m.role for m in talk.messages] == ["system", "user", "assistant", "tool", "assistant"]
        for message, learnt in zip(talk.messages, talk.learnt, strict=True):
            if learnt:
                said = calling.parsed(message.content)
                assert said.calls or said.text != message.content, "a model held to the grammar could not write it"

    async def test_a_solution_that_does_not_solve_is_thrown_away(self) -> None:
        wrong = [replace(task, calls=(), answer="Done.") for task in practices("train", 5)]
        taught = await teach(wrong, DESK.tools, AgentConfig())
        assert taught.refused >= 4


class TestDeclaration:
    def test_a_model_or_a_way_to_make_one(self) -> None:
        for fields in ({}, {"model": "m", "learn": {}, "practice": {}}, {"learn": {}}):
            with pytest.raises(ValidationError):
                AgentProductConfig.model_validate(fields)
        with pytest.raises(ValidationError, match="no metric"):
            gate = {"rules": [{"kind": "better_than", "metric": "token_f1"}]}
            AgentProductConfig.model_validate({"model": "m", "gate": gate})
        with pytest.raises(ValidationError, match="one of them"):
            AgentProductConfig.model_validate({"model": "m", "tools": [{"kind": "mcp"}]})

    def test_its_model_is_declared_before_it(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no product declared before"):
            AgentProduct(AgentProductConfig(model="assistant"), place(tmp_path))

    def test_its_line(self, tmp_path: Path) -> None:
        learning = AgentProductConfig.model_validate({"practice": {}, "learn": {}})
        product = AgentProduct(learning, place(tmp_path))
        names = [step.name for step in product.steps(None)]  # type: ignore[arg-type]
        assert names[0] == "clerk.card" and names[-1] == "clerk.gate" and product.served == "clerk.compile"
        plain = AgentProduct(AgentProductConfig(model="assistant"), place(tmp_path, {"assistant": object()}))
        assert [step.name for step in plain.steps(None)] == ["clerk.card"]  # type: ignore[arg-type]


class TestOpening:
    def open(self, tmp_path: Path, tool: Any, **engines: Any) -> Any:
        given = tool if isinstance(tool, dict) else tool.model_dump()
        found: ToolConfig = AgentProductConfig.model_validate({"model": "m", "tools": [given]}).tools[0]
        return {each.tool.name: each for each in open_tool(found, place(tmp_path), opening(tmp_path, **engines))}

    async def call(self, capability: Any, **values: Any) -> Any:
        return await capability.perform(capability.read(json.dumps(values)), Occasion())

    async def test_sql_over_the_factory_s_tables(self, tmp_path: Path) -> None:
        open_lake(str(tmp_path / "lake")).put("shop.items", [{"item": "lamp", "price": 12}])
        sql = self.open(tmp_path, {"kind": "sql", "tables": ["items"]})["sql"]
        assert "items(item string, price int64)" in sql.tool.description
        assert '[["lamp", 12]]' in (await self.call(sql, sql="SELECT * FROM items")).output
        assert (await self.call(sql, sql="DROP TABLE items")).error == "config_error"
        assert (await self.call(sql, sql="SELECT * FROM read_text('/etc/passwd')")).error == "config_error"
        with pytest.raises(NotFound, match="nothing"):
            self.open(tmp_path, {"kind": "sql", "tables": ["nothing"]})

    async def test_search_by_words_and_by_meaning(self, tmp_path: Path) -> None:
        lake = open_lake(str(tmp_path / "lake"))
        lake.put("shop.notes", [{"id": str(n), "text": f"note {n} about {w}"} for n, w in enumerate(["cats", "dogs"])])
        lake.index("shop.notes", "text")
        search = self.open(tmp_path, {"kind": "search", "table": "notes", "rows": 1})["search"]
        said = await self.call(search, query="dogs")
        assert "about dogs" in said.output and said.quotes == {"1"}, "what an erasure goes by"
        assert (await self.call(search, query="hounds")).output == "[]", "by words alone"
        assert not search.trusted, "whoever writes a document writes what a search returns"
        asked = {"kind": "search", "table": "notes", "encoder": "e", "rows": 2}
        for engines, told in (({}, "vectors is called 'e'"), ({"e": open_engine(EchoConfig())}, "has no vectors")):
            with pytest.raises(NotFound, match=told):
                self.open(tmp_path, asked, **engines)

    async def test_what_shares_no_word_is_found_by_its_vector(self, tmp_path: Path, monkeypatch: Any) -> None:
        class Encoder:  # sees animals and weather, and no words
            name, capabilities = "e", frozenset({"embed"})

            async def respond(self, request: EmbedRequest, /) -> EmbedResult:
                kinds = (("dog", "hound", "puppy"), ("rain", "storm"))
                found = tuple(float(any(word in request.text for word in kind)) for kind in kinds)
                return EmbedResult(vector=(*found, 0.1), usage=Usage(input_tokens=2))

            async def close(self) -> None:
                pass

        lake = open_lake(str(tmp_path / "lake"))
        texts = ["a storm is near", "x " * 400 + "the puppy sleeps", "dogs bark", "stones lie still"]
        lake.put("shop.notes", [{"id": n, "text": text} for n, text in enumerate(texts)], tag=rows_tag("k" * 64))
        source = Artifact(key="k" * 64, digest="d", step="table_notes", path="", meta={
            "table": "shop.notes", "rows": lake.digest("shop.notes")})  # fmt: skip
        monkeypatch.setattr(vectors, "open_encoder_of", lambda encoder, base: Encoder())
        tool: Any = AgentProductConfig.model_validate(
            {"model": "m", "tools": [{"kind": "search", "table": "notes", "encoder": "e", "rows": 2}]}
        ).tools[0]
        table = vectors.vectors_table(place(tmp_path), tool)
        config = vectors.VectorsConfig(table=table, source="table_notes", column="", encoder=EncoderConfig(name="e"))
        ctx = SimpleNamespace(
            inputs={"table_notes": source}, resources={"lake": str(tmp_path / "lake"), "base": "."}, key="v" * 64,
            progress=lambda *told: None,
        )  # fmt: skip
        made = await asyncio.to_thread(vectors.vectors, ctx, config)  # type: ignore[arg-type]
        assert made["what"] == "vectors of 5 passages"
        search = self.open(tmp_path, tool, e=Encoder())["search"]
        said = await self.call(search, query="hounds bark")
        assert [row["id"] for row in json.loads(said.output)] == [2, 1], "by words and vector, then by a late passage"
        assert said.usage == Usage(input_tokens=2) and search.asks == "e" and said.quotes == {"1", "2"}
        assert [each.table for each in lake.erase(["1"])] == [table, "shop.notes"], "an erasure reaches the vectors"
        assert '"id": 1' not in (await self.call(search, query="hounds")).output
        for fields, told in ((("nothing", "e"), "no table that can get"), (("notes", "e"), "no product before it")):
            wrong = tool.model_copy(update=dict(zip(("table", "encoder"), fields, strict=True)))
            declared = AgentProductConfig(model="m", tools=(wrong,))
            where = replace(place(tmp_path), tables={"notes": "table_notes"})
            with pytest.raises(ConfigError, match=told):
                vectors.vector_steps(declared, where, LakeState("l", lambda table: ""))

    async def test_functions_and_mcp_servers(self, tmp_path: Path, monkeypatch: Any) -> None:
        (tmp_path / "mine_functions.py").write_text(
            "def shout(text: str) -> str:\n    'Shout.'\n    return text.upper()\n"
        )
        monkeypatch.syspath_prepend(str(tmp_path))
        shout = self.open(tmp_path, {"kind": "function", "run": "mine_functions:shout", "effects": "once"})["shout"]
        assert shout.effects == "once" and (await self.call(shout, text="a")).output == "A"
        with pytest.raises(ConfigError, match="cannot be found"):
            self.open(tmp_path, {"kind": "function", "run": "mine_functions:nothing"})
        server = Path(__file__).parents[1] / "infer" / "agents" / "mcp_shop.py"
        tool = {"kind": "mcp", "command": [sys.executable, str(server)], "token_variable": "SHOP", "only": ["token"]}
        token = self.open(tmp_path, tool)["token"]
        assert (await self.call(token)).output == "my token is [secret]"
        await token.close()

    async def test_the_recommender_is_asked_for_the_asker_s_project(self, tmp_path: Path) -> None:
        asked: list[RankRequest] = []

        class Ranks:
            name, capabilities = "ranks", frozenset({"rank"})

            async def respond(self, request: RankRequest, /) -> Ranking:
                asked.append(request)
                reason = Reason(kind="because", items=("lamp",), sentence="because you bought a lamp")
                return Ranking(items=(Ranked(item="bulb", score=1.0, reason=reason),), usage=Usage(units=1))

        tool = {"kind": "recommender", "product": "recommend", "items": 3}
        found = self.open(tmp_path, tool, recommend=Ranks())["recommend"]
        values = found.read('{"user": "ada", "n": 9}')
        said = await found.perform(values, Occasion(Asker(project="p")))
        assert said.output == '[{"item": "bulb", "reason": "because you bought a lamp"}]'
        assert (asked[0].project, asked[0].user, asked[0].n) == ("p", "ada", 3)
        assert said.usage == Usage(units=1)
        echo = open_engine(EchoConfig())
        agent = AgentEngine(echo, [found], AgentConfig(), AgentParts(asks="m"))
        request = ChatRequest(messages=(Message(role="user", content="Please recommend"),))
        answer = await agent.respond(request)
        assert answer.usage.units == 1 and agent.most(request).units == 3 * 16
        assert agent.lent == {"m": echo.counters.total, "recommend": Usage(units=1)}, (
            "what others counted is told apart"
        )
        with pytest.raises(NotFound, match="not served"):
            self.open(tmp_path, tool)

    async def test_books_balance_when_a_model_is_served_beside_its_agent(self, tmp_path: Path) -> None:
        echo = open_engine(EchoConfig())
        config = AgentProductConfig.model_validate({"model": "m", "tools": [{"kind": "calculator"}]})
        done = Deployment(name="clerk", run="r", key="k", path="p", deployed_at=0)
        agent = open_agent(config, place(tmp_path), done, opening(tmp_path, m=echo))
        request = ChatRequest(messages=(Message(role="user", content="one two three"),))
        await echo.respond(request)
        answer = await agent.of(Asker(project="p")).respond(request)
        counted = Counted()
        for name, engine in (("m", echo), ("clerk", agent)):
            counted.closed(name, engine)  # type: ignore[arg-type]
        assert counted()["clerk"] == answer.usage
        assert counted()["m"].total_tokens + answer.usage.total_tokens == echo.counters.total.total_tokens
        assert counted()["m"].total_tokens == 6
        with pytest.raises(NotFound, match="is not served"):
            open_agent(config, place(tmp_path), done, opening(tmp_path))


class TestReceipt:
    def finished(self, tmp_path: Path, solved: float) -> tuple[AgentProduct, Finished]:
        product = AgentProduct(AgentProductConfig.model_validate({"practice": {}, "learn": {}}), place(tmp_path))
        reports = {name: report(value) for name, value in (("trials_base", 0.0), ("trials", solved))}
        verdict = decide(
            GateConfig(rules=(BetterThan(metric="solved"),)), [reports["trials_base"]], [reports["trials"]]
        )
        tried = {"trials": 40, "attempts": 40, "solved": int(40 * solved), "steps": 80, "seconds": 1.0}
        metas: dict[str, Any] = {
            "teach": {"talks": 50, "refused": 1},
            "train": {"tokens": 24_000, "seconds": 200.0},
            "trials_base": tried | {"usage": {}},
            "trials": tried | {"usage": {"input_tokens": 4_000, "output_tokens": 400}},
            "compile": {"weights": "int8", "kind": "openvino"},
            "gate": {},
            "card": {},
        }
        made = {}
        for name, meta in metas.items():
            folder = tmp_path / name
            folder.mkdir()
            if name in reports:
                (folder / "trials.json").write_text(reports[name].model_dump_json())
            (folder / "verdict.json").write_text(verdict.model_dump_json())
            made[f"clerk.{name}"] = Artifact(key=f"key-{name}", digest="d", step=name, path=str(folder), meta=meta)
        prices = PriceBook()
        return product, Finished("shop", "r", 0.0, 1.0, made, {}, {}, (), "lake", prices)

    def test_an_agent_that_solves_more_is_deployed_and_says_what_it_did(self, tmp_path: Path) -> None:
        product, done = self.finished(tmp_path, 0.5)
        part, deployed = product.part(done), product.deployment(done)
        assert part.deployed and deployed and deployed.path.endswith("engine") and deployed.key == "key-compile"
        assert "20 of 40 attempts" in dict(part.facts)["trials"] and "50 verified" in dict(part.facts)["learnt from"]
        assert [(line.metric, line.before, line.after) for line in part.metrics] == [("solved", 0.0, 0.5)]

    def test_one_that_does_not_is_not(self, tmp_path: Path) -> None:
        product, done = self.finished(tmp_path, 0.0)
        assert not product.part(done).deployed and product.deployment(done) is None


def report(solved: float) -> Report:
    scores = [
        Score(sample_id=f"t{n}", group=f"g{n % 10}", values={"solved": float(n % 2 < 2 * solved and n % 2 == 0)})
        for n in range(40)
    ]
    value = sum(score.values["solved"] for score in scores) / 40
    metric = Metric(name="solved", better="higher", value=value, interval=None, samples=40, groups=10)
    return Report(task="trials", model="m", metrics=(metric,), scores=tuple(scores), seconds=1.0)
