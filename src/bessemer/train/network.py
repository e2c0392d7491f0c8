"""The network that is trained: a frozen base with LoRA adapters, and its loss over a batch of rows.

Owns loading, the adapters' shape, and the loss. Knows no optimiser, no checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from bessemer.models.quiet import quiet_transformers
from bessemer.train.config import Precision, SftConfig
from bessemer.train.rows import Row

Tensors = dict[str, torch.Tensor]


class Network:
    """A frozen base model with trainable adapters on all its linear layers but the output head.

    Args:
        base: a Hugging Face folder.
        config: rank, alpha and seed are used.
        device: where it lives.
    """

    def __init__(self, base: Path, config: SftConfig, device: torch.device) -> None:
        with quiet_transformers():
            self.tokenizer = AutoTokenizer.from_pretrained(base)
            model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
            torch.manual_seed(config.seed)  # the adapters' first values
            self._tuned: Any = get_peft_model(model, _shape(config)).to(device)
        self.device = device
        self.precision: Precision = "fp32"
        self._tuned.train()
        self._model: Any = self._tuned.get_base_model()
        self._plain_head = self._head_is_plain()

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the trainable parameters, in a fixed order."""
        return [parameter for parameter in self._tuned.parameters() if parameter.requires_grad]

    def loss(self, rows: Sequence[Row], *, by_span: float) -> torch.Tensor:
        """Return the mean negative log-likelihood of the learnt tokens, a scalar in nats.

        Args:
            rows: one batch.
            by_span: how strongly spans rather than tokens count alike: a token of a span of n learnt tokens weighs
                n ** -by_span, so 0 is the mean over tokens and 1 the mean over spans.
        """
        tokens_BL, mask_BL, learnt_BL, weights_BL = self._pad(rows, by_span)
        targets = tokens_BL[:, 1:][learnt_BL[:, 1:]]
        with self._autocast():
            logits = self._logits(tokens_BL, mask_BL, learnt_BL)
        weights = weights_BL[:, 1:][learnt_BL[:, 1:]]
        losses = functional.cross_entropy(logits.float(), targets, reduction="none")
        return (losses * weights).sum() / weights.sum()

    def adapter(self) -> Tensors:
        """Return a copy of the adapters' weights, on the processor, by name."""
        state = get_peft_model_state_dict(self._tuned)
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in sorted(state.items())}

    def set_adapter(self, weights: Tensors) -> None:
        """Put weights that `adapter` gave back into place."""
        set_peft_model_state_dict(self._tuned, weights)

    def save_adapter(self, out: Path, weights: Tensors | None = None) -> None:
        """Write the adapters, or the weights that `adapter` gave back, as PEFT reads them.

        The same weights give the same bytes, and no path of this machine.
        """
        facts = self._tuned.peft_config["default"].to_dict()
        facts.update(base_model_name_or_path="", inference_mode=True)
        written = {key: sorted(value) if isinstance(value, set) else value for key, value in facts.items()}
        out.mkdir(parents=True, exist_ok=True)
        (out / "adapter_config.json").write_text(json.dumps(written, indent=1, sort_keys=True, default=str) + "\n")
        save_file(weights or self.adapter(), out / "adapter_model.safetensors", metadata={"format": "pt"})

    def _logits(self, tokens_BL: torch.Tensor, mask_BL: torch.Tensor, learnt_BL: torch.Tensor) -> torch.Tensor:
        """Return the logits, (learnt tokens, vocabulary), that predict each learnt token.

        The output head takes a fifth of the work over all positions; most of a question's tokens need none of it.
        """
        before = learnt_BL[:, 1:]
        if not self._plain_head:
            all_logits: torch.Tensor = self._model(input_ids=tokens_BL, attention_mask=mask_BL).logits
            return all_logits[:, :-1][before]
        body = getattr(self._model, self._model.base_model_prefix)
        hidden_BLD = body(input_ids=tokens_BL, attention_mask=mask_BL, use_cache=False).last_hidden_state
        picked: torch.Tensor = self._model.get_output_embeddings()(hidden_BLD[:, :-1][before])
        return picked

    def _head_is_plain(self) -> bool:
        """Return whether the logits are the output head of the last hidden state, and nothing more (no soft cap)."""
        tokens = torch.arange(1, 5, device=self.device).reshape(1, 4)
        everything = torch.ones_like(tokens, dtype=torch.bool)
        self._plain_head = True
        with torch.no_grad():
            try:
                short = self._logits(tokens, everything.long(), everything)
            except (AttributeError, TypeError):
                return False
            full = self._model(input_ids=tokens).logits[0, :-1]
        return bool(torch.allclose(short, full, atol=1e-3))

    def _pad(self, rows: Sequence[Row], by_span: float) -> tuple[torch.Tensor, ...]:
        """Return tokens, attention mask, learnt and weights of a batch, each (rows, longest)."""
        longest = max(len(row.tokens) for row in rows)
        tokens = torch.zeros(len(rows), longest, dtype=torch.long)
        mask, weights = torch.zeros_like(tokens), torch.zeros(len(rows), longest)
        for index, row in enumerate(rows):
            length = len(row.tokens)
            tokens[index, :length] = torch.tensor(row.tokens)
            mask[index, :length] = 1
            for first, end in row.spans:
                weights[index, first:end] = (end - first) ** -by_span
        return tuple(tensor.to(self.device) for tensor in (tokens, mask, weights > 0, weights))

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")


def _shape(config: SftConfig) -> LoraConfig:
    return LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules="all-linear", task_type="CAUSAL_LM")
