"""What a person asks to have copied: files, or the tables of a factory's synthetic product.

Owns how names on a command line become tables. Knows no terminal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bessemer.core.errors import ConfigError
from bessemer.lake import table_sources
from bessemer.lake.tabular.reading import read_source
from bessemer.lake.writing.writer import Writing, write_rows
from bessemer.products.config import load_factory
from bessemer.products.factory import Factory
from bessemer.products.home import Home
from bessemer.products.llm.config import ServerConfig
from bessemer.products.synthetic import making
from bessemer.products.synthetic.config import SyntheticConfig
from bessemer.products.synthetic.quick import Wanted, of_files

DECLARATIONS = (".yaml", ".yml")


def wanted(paths: Sequence[Path], changed: Mapping[str, object] | None = None) -> Wanted:
    """Return what is to be copied.

    Args:
        paths: files with tables; or one factory.yaml whose product is synthetic and whose tables are files.
        changed: fields of the product's declaration that are given besides.

    Raises:
        NotFound: there is no such file.
        ConfigError: it is no table and no such declaration, or two tables have one name.
    """
    if len(paths) == 1 and paths[0].suffix.lower() in DECLARATIONS:
        return _declared(paths[0], changed or {})
    names = [path.stem for path in paths]
    if len(set(names)) < len(names):
        raise ConfigError("two files have one name", hint="Rename one: a table is called as its file.")
    config = SyntheticConfig.model_validate({"tables": tuple(names), **(changed or {})})
    return of_files(dict(zip(names, paths, strict=True)), config)


def _declared(path: Path, changed: Mapping[str, object]) -> Wanted:
    factory, base = load_factory(path)
    name, config = next(((n, p) for n, p in factory.made.items() if isinstance(p, SyntheticConfig)), ("", None))
    if config is None:
        raise ConfigError(f"{path} declares no synthetic dataset", hint="It has a product of `kind: synthetic`.")
    config = SyntheticConfig.model_validate({**config.model_dump(), **changed})
    if lost := [table for table in config.tables if table not in factory.tables]:
        raise ConfigError(f"the table '{lost[0]}' is not declared", hint="Declare it under `tables`.")
    found = {table: read_source(factory.tables[table], base) for table in config.tables}
    return Wanted(name, making.typed_tables(found, config), config)


def preview_texts(path: Path, home: Home, rows: int, secret: Callable[[str], str]) -> Writing | None:
    """Return a few rows of the texts that a factory declares, with those that were rejected; None if it declares none.

    Args:
        path: of the declaration.
        home: where the model that writes them is deployed.
        rows: how many.
        secret: from the name of a variable, which a declaration has, to the secret in it.

    Raises:
        NotFound: the model that writes them is not deployed yet.
        ConfigError: it is not a valid declaration.
    """
    factory, base = load_factory(path)
    texts = next((p.texts for p in factory.made.values() if isinstance(p, SyntheticConfig) and p.texts), None)
    if texts is None:
        return None
    given = list(table_sources.read_table(factory.tables[texts.given], base)) if texts.given else []

    async def written() -> Writing:
        server = factory.llm.engine if factory.llm and texts.model else None
        key = secret(server.api_key_variable) if isinstance(server, ServerConfig) else ""
        engines = Factory(factory, base, home, secret=secret).open_engines(key) if texts.model else {}
        try:
            asked = texts.dataset.model_copy(update={"rows": rows})
            return await write_rows(asked, engines.get(texts.model), given)
        finally:
            for engine in engines.values():
                await engine.close()

    return asyncio.run(written())
