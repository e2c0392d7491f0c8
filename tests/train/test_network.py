"""The loss is the network's own, computed on fewer positions; the precision trial leaves no trace."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from bessemer.train import SftConfig
from bessemer.train.network import Network
from bessemer.train.precision import choose_precision
from bessemer.train.rows import Row

ROWS = [
    Row(tuple(range(5, 40)), ((20, 35),)),
    Row(tuple(range(50, 60)), ((1, 10),)),
    Row(tuple(range(9, 30)), ((5, 8), (18, 21))),
]


@pytest.fixture
def network(tiny_base: Path) -> Network:
    return Network(tiny_base, SftConfig(rank=4, alpha=8), torch.device("cpu"))


def by_hand(network: Network, row: Row) -> list[torch.Tensor]:
    """Return the losses of each span of a row from a plain forward pass without padding."""
    tokens = torch.tensor([row.tokens])
    logits = network._model(input_ids=tokens).logits[0, :-1]
    losses = functional.cross_entropy(logits, tokens[0, 1:], reduction="none")
    return [losses[first - 1 : end - 1] for first, end in row.spans]


@pytest.mark.parametrize("plain_head", [True, False])
def test_the_loss_is_the_mean_over_learnt_tokens(network: Network, plain_head: bool) -> None:
    assert network._plain_head
    network._plain_head = plain_head
    losses = [span for row in ROWS for span in by_hand(network, row)]
    assert network.loss(ROWS, by_span=0.0).item() == pytest.approx(torch.cat(losses).mean().item(), rel=1e-4)
    each_span = torch.stack([loss.mean() for loss in losses]).mean().item()
    assert network.loss(ROWS, by_span=1.0).item() == pytest.approx(each_span, rel=1e-4)


def test_an_adapter_starts_as_nothing_and_comes_back_bitwise(network: Network, tiny_base: Path) -> None:
    adapter = network.adapter()
    assert all(not tensor.any() for name, tensor in adapter.items() if "lora_B" in name)
    changed = {name: tensor + 0.1 for name, tensor in adapter.items()}
    network.set_adapter(changed)
    assert all(torch.equal(tensor, changed[name]) for name, tensor in network.adapter().items())


def test_the_trial_leaves_no_trace(network: Network) -> None:
    before, random = network.adapter(), torch.get_rng_state()
    trial = choose_precision(network, ROWS, 0.5)
    assert trial.precision in ("fp32", "bf16")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.adapter().items())
    assert torch.equal(random, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_clearly_faster_precision_wins(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {"fp32": 100.0, "bf16": 130.0}
    monkeypatch.setattr("bessemer.train.precision._has_fast_bf16", lambda clock: True)
    monkeypatch.setattr("bessemer.train.precision._speed", lambda network, batch, precision, *rest: speeds[precision])
    assert choose_precision(network, ROWS, 0.5).precision == "bf16"
    speeds["bf16"] = 105.0
    assert choose_precision(network, ROWS, 0.5).precision == "fp32"
