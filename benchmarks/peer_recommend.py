"""What `bench_recommend.py` asks of the environment that implicit and RecBole are installed in.

    python benchmarks/peer_recommend.py rank FOLDER    # fits on FOLDER's events; writes scores, prints seconds
    python benchmarks/peer_recommend.py serve FOLDER   # fits ALS on many items; prints how long rankings take

Events come as arrays from the benchmark; nothing of MovieLens is kept. One JSON line for each model.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

ALS = ((32, 10.0, 3.0), (64, 20.0, 3.0), (64, 50.0, 5.0))
RIDGES = (200.0, 500.0)
NEIGHBOURS = (50, 200)


def events(folder: Path) -> tuple[Any, Any, tuple[int, int]]:
    users, items = np.load(folder / "users.npy"), np.load(folder / "items.npy")
    shape = json.loads((folder / "shape.json").read_text())
    return users, items, tuple(shape)


def tell(folder: Path, name: str, scores: Any, seconds: float) -> None:
    np.save(folder / f"{name}.npy", np.asarray(scores, np.float32))
    print(json.dumps({"model": name, "fit_seconds": seconds}), flush=True)


def implicit_models(folder: Path) -> None:
    from implicit.als import AlternatingLeastSquares
    from implicit.nearest_neighbours import CosineRecommender

    users, items, shape = events(folder)
    seen = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    for width, ridge, alpha in ALS:
        began = time.perf_counter()
        model = AlternatingLeastSquares(
            factors=width, regularization=ridge, alpha=alpha, iterations=15, num_threads=1, random_state=0
        )
        model.fit(seen, show_progress=False)
        seconds = time.perf_counter() - began
        tell(folder, f"implicit als {width} {ridge:g} {alpha:g}", model.user_factors @ model.item_factors.T, seconds)
    for neighbours in NEIGHBOURS:
        began = time.perf_counter()
        near = CosineRecommender(K=neighbours, num_threads=1)
        near.fit(seen, show_progress=False)
        seconds = time.perf_counter() - began
        tell(folder, f"implicit item_knn {neighbours}", (seen @ near.similarity).toarray(), seconds)


def recbole_models(folder: Path) -> None:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.data.interaction import Interaction
    from recbole.utils import get_model, get_trainer, init_seed

    users, items, shape = events(folder)
    place = folder / "bench"
    place.mkdir(exist_ok=True)
    lines = "".join(f"u{u}\ti{i}\n" for u, i in zip(users, items, strict=True))
    for part in ("train", "valid", "test"):  # RecBole wants three files; only the first is learnt from
        (place / f"bench.{part}.inter").write_text("user_id:token\titem_id:token\n" + lines)
    asked = [("ease", {"reg_weight": ridge}) for ridge in RIDGES] + [("itemknn", {"k": k}) for k in NEIGHBOURS]
    for kind, settings in asked:
        name = {"ease": "EASE", "itemknn": "ItemKNN"}[kind]
        config = Config(
            model=name,
            dataset="bench",
            config_dict={
                "data_path": str(folder), "benchmark_filename": ["train", "valid", "test"], "state": "ERROR",
                "load_col": {"inter": ["user_id", "item_id"]}, "use_gpu": False, "show_progress": False,
                "checkpoint_dir": str(folder), "tensorboard": False, **settings,
            },
        )  # fmt: skip
        init_seed(config["seed"], True)
        data = create_dataset(config)
        train, _, _ = data_preparation(config, data)
        began = time.perf_counter()
        model = get_model(name)(config, train._dataset)
        get_trainer(config["MODEL_TYPE"], name)(config, model).fit(train, saved=False, show_progress=False)
        seconds = time.perf_counter() - began
        known = data.token2id("user_id", np.asarray([f"u{u}" for u in range(shape[0])]))
        columns = data.token2id("item_id", np.asarray([f"i{i}" for i in sorted(set(items.tolist()))]))
        told = model.full_sort_predict(Interaction({"user_id": __import__("torch").tensor(known)}))
        scores = np.full(shape, -1e6, np.float32)  # RecBole knows no items without events
        scores[:, sorted(set(items.tolist()))] = np.asarray(told).reshape(len(known), -1)[:, columns]
        setting = next(iter(settings.values()))
        tell(folder, f"recbole {kind} {setting:g}", scores, seconds)


def serve(folder: Path) -> None:
    from implicit.als import AlternatingLeastSquares

    users, items, shape = events(folder)
    seen = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    began = time.perf_counter()
    model = AlternatingLeastSquares(
        factors=64, regularization=10.0, alpha=5.0, iterations=5, num_threads=1, random_state=0
    )
    model.fit(seen, show_progress=False)
    fit_seconds = time.perf_counter() - began
    asked = np.random.default_rng(1).choice(shape[0], 300)
    taken = []
    for user in asked:
        began = time.perf_counter()
        model.recommend(user, seen[user], N=10)
        taken.append(time.perf_counter() - began)
    p50, p99 = np.quantile(taken, [0.5, 0.99])
    print(json.dumps({"model": "implicit als", "fit_seconds": fit_seconds, "p50_seconds": p50, "p99_seconds": p99}))


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    if what == "rank":
        implicit_models(where)
        recbole_models(where)
    else:
        serve(where)
