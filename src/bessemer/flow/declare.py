"""What is to be done: steps, the flow that they form, and the key under which a step's result is kept.

Owns the key: the same function, source, configuration and inputs give the same key, in any run of any flow.
Knows no database and no process.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from pydantic import ValidationError

from bessemer.core.config import Config
from bessemer.core.digest import canonical_json, digest, digest_bytes
from bessemer.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Step:
    """One function call whose result is kept for ever.

    Attributes:
        name: unique in its flow; letters, digits, ``_ . -``. What stands before the last dot is the part of the flow.
        run: ``package.module:function``; called as ``function(ctx, config)``, returns JSON values as its meta.
        config: handed to the function; its class stands at the top level of a module.
        needs: names of the steps whose artifacts the function reads, found in its context
            without the part of the flow that both are in.
        inputs: digests of what it reads besides, such as the fingerprint of a source.
        code: modules and packages whose source the result depends on, besides the function's own module.
        queue: name of the limit that it runs under.
        retries: how many failures are forgiven; an error that its author must mend is never retried.
        backoff_seconds: pause before the first retry; doubles with each further one.
    """

    name: str
    run: str
    config: Config | None = None
    needs: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    queue: str = "default"
    retries: int = 0
    backoff_seconds: float = 1.0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w.-]+", self.name):
            raise ConfigError(f"'{self.name}' cannot name a step", hint="Use letters, digits and _ . - only.")
        if not re.fullmatch(r"[\w.]+:[\w.]+", self.run):
            raise ConfigError(f"step '{self.name}' runs '{self.run}'", hint="Write it as 'package.module:function'.")
        if self.config is not None and "<locals>" in type(self.config).__qualname__:
            told = f"the config class of step '{self.name}' is local to a function, so no other process can find it"
            raise ConfigError(told, hint="Define it at the top level of a module.")

    def version(self) -> str:
        """Return the digest of the source of its modules, and of every file in packages; nothing heavy is imported.

        Raises:
            ConfigError: there is no such module.
        """
        return digest({name: _source(name) for name in (self.run.partition(":")[0], *self.code)})

    def key(self, code: str, needs: Mapping[str, str]) -> str:
        """Return the key of the result, 64 hexadecimal digits.

        Args:
            code: version of the step's code, from `version`.
            needs: digest of the artifact of each step in `needs`.
        """
        config = self.config.digest() if self.config else ""
        return digest([self.run, code, config, dict(self.inputs), dict(needs)])

    def dump(self) -> dict[str, Any]:
        """Return the step as JSON values."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "config"}
        if self.config is not None:
            kind = type(self.config)
            values["config"] = [f"{kind.__module__}:{kind.__qualname__}", self.config.model_dump(mode="json")]
        return values

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> Step:
        """Return the step that `dump` wrote.

        Raises:
            ConfigError: its config class has moved or changed since.
        """
        fields: dict[str, Any] = {**values, "needs": tuple(values["needs"]), "code": tuple(values["code"])}
        if "config" in fields:
            path, data = fields["config"]
            try:
                fields["config"] = resolve_name(path).model_validate(data)
            except (ImportError, AttributeError, ValidationError) as error:
                told = f"the config of step '{fields['name']}' cannot be read: {error}"
                hint = "The code has changed since the flow was submitted: submit it again."
                raise ConfigError(told, hint=hint) from error
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Flow:
    """Steps and what each needs; kept in an order in which they can run.

    Raises:
        ConfigError: two steps share a name, a needed step does not exist, or steps wait for each other in a ring.
    """

    name: str
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        named = {step.name: step for step in self.steps}
        if len(named) < len(self.steps):
            raise ConfigError(f"two steps of flow '{self.name}' share a name", hint="Rename one of them.")
        for step in self.steps:
            if missing := sorted(set(step.needs) - set(named)):
                known = ", ".join(named)
                raise ConfigError(f"step '{step.name}' needs '{missing[0]}', which is no step", hint=f"Steps: {known}")
        ordered: dict[str, Step] = {}
        for step in self.steps:
            _place(step, named, ordered)
        object.__setattr__(self, "steps", tuple(ordered.values()))

    def dump(self) -> str:
        """Return the flow as canonical JSON text."""
        return canonical_json({"name": self.name, "steps": [step.dump() for step in self.steps]})

    @classmethod
    def load(cls, text: str) -> Flow:
        """Return the flow that `dump` wrote."""
        values = json.loads(text)
        return cls(values["name"], tuple(Step.load(step) for step in values["steps"]))


def _place(step: Step, named: Mapping[str, Step], ordered: dict[str, Step], trail: tuple[str, ...] = ()) -> None:
    """Put a step behind what it needs; otherwise the declared order stays: the author knows what fails early."""
    if step.name in trail:
        ring = " -> ".join((*trail[trail.index(step.name) :], step.name))
        raise ConfigError(f"steps wait for each other: {ring}", hint="Remove one of these needs.")
    for name in step.needs:
        if name not in ordered:
            _place(named[name], named, ordered, (*trail, step.name))
    ordered[step.name] = step


def _source(name: str) -> dict[str, str]:
    spec = None
    with suppress(ImportError, ValueError):
        spec = find_spec(name)
    if spec is None:
        raise ConfigError(f"module '{name}' cannot be found or imported", hint="Check `run` and `code` of the step.")
    files: dict[str, Path] = {}
    for root in map(Path, spec.submodule_search_locations or ()):
        found = (path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        files |= {path.relative_to(root).as_posix(): path for path in found}
    if not files and spec.has_location and spec.origin:
        files["."] = Path(spec.origin)
    return {relative: _file_digest(path, (s := path.stat()).st_mtime_ns, s.st_size) for relative, path in files.items()}


@lru_cache(maxsize=4096)
def _file_digest(path: Path, modified_nanoseconds: int, size_bytes: int) -> str:
    return digest_bytes(path.read_bytes())
