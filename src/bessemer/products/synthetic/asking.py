"""What a person asks to have copied: files, or the tables of a factory's synthetic product.

Owns how names on a command line become tables. Knows no terminal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bessemer.core.errors import ConfigError
from bessemer.lake.tabular.reading import read_source
from bessemer.products.factory import load_factory
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
