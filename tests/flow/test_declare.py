"""Declarations: what is refused, what a key depends on, and that a flow survives its way through a database."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bessemer.core.config import Config
from bessemer.core.errors import ConfigError
from bessemer.flow import Flow, Step, open_store

RUN = "probe_steps:work"
NAMES = st.text("abcxyz", min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Step("a b", RUN), "cannot name a step"),
        (lambda: Step("a", "probe_steps.work"), "runs 'probe_steps.work'"),
        (lambda: Flow("f", (Step("a", RUN), Step("a", RUN))), "share a name"),
        (lambda: Flow("f", (Step("a", RUN, needs=("b",)),)), "needs 'b'"),
        (lambda: Flow("f", (Step("a", RUN, needs=("b",)), Step("b", RUN, needs=("a",)))), "wait for each other"),
        (lambda: Step("a", "no_such_module:run").version(), "'no_such_module' cannot be found"),
        (lambda: Step("a", RUN, code=("no_such.module",)).version(), "cannot be found"),
        (lambda: open_store("mysql://host"), "no database"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong_and_what_to_do(make, message):
    with pytest.raises(ConfigError, match=message) as caught:
        make()
    assert caught.value.hint


def test_a_config_that_no_other_process_can_find_is_refused():
    class Local(Config):
        pass

    with pytest.raises(ConfigError, match="local to a function"):
        Step("a", RUN, Local())


def test_a_flow_survives_its_way_through_text(programs):
    import probe_steps

    steps = (
        Step("b", RUN, probe_steps.Work(value=3), ("a",), {"x": "1"}, ("json",), "gpu", 2, 0.5),
        Step("a", RUN),
    )
    flow = Flow("f", steps)
    assert Flow.load(flow.dump()) == flow and [step.name for step in flow.steps] == ["a", "b"]
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        Flow.load(flow.dump().replace('"value":3', '"value":"three"'))
    assert "submit it again" in caught.value.hint


@given(
    st.dictionaries(NAMES, NAMES, max_size=3), st.dictionaries(NAMES, NAMES, max_size=3), NAMES, st.sampled_from("ab")
)
def test_a_key_depends_on_what_the_result_depends_on_and_on_nothing_else(inputs, needs, code, change):
    step = Step("s", RUN, inputs=inputs)
    key = step.key(code, needs)
    renamed = Step("other", RUN, inputs=dict(reversed(inputs.items())), queue="gpu", retries=3)
    assert renamed.key(code, dict(reversed(needs.items()))) == key
    assert step.key(code + change, needs) != key
    assert step.key(code, {**needs, "new": "1"}) != key
    assert Step("s", RUN, inputs={**inputs, "new": "1"}).key(code, needs) != key
    assert Step("s", RUN + "2", inputs=inputs).key(code, needs) != key


def test_importing_flow_brings_nothing_heavy():
    heavy = "{'torch', 'numpy', 'pyarrow', 'lance', 'psycopg', 'starlette', 'transformers', 'openvino'}"
    program = f"import sys, bessemer.flow, bessemer.flow.child; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
