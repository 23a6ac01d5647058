"""Speed of victims of the papers' size on this device: python benchmarks/throughput.py [--threads 1] (minutes, 6 GB)

CodeBERT-base and CodeT5-base with random weights at configs/paper.yaml's lengths: tokens per second of training
(forward, backward, AdamW) and of prediction, seconds of a step of greedy decoding, and the rate of one large matrix
product. Floating-point operations are counted by costs/work.py and, for comparison, by PyTorch. The results for this
device are written to workflow/codebackdoor/costs/throughput.json, from which `make plan` reads the models' sizes and
the accuracy of the count.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CodeGenConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTBigCodeConfig,
    LlamaConfig,
    RobertaConfig,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.pytorch_utils import Conv1D

from codebackdoor.costs.work import LayerSize, ModelSize
from codebackdoor.victims.adapters import _is_matrix, _last
from codebackdoor.victims.families import model_class, named_classes
from codebackdoor.victims.families.roberta import first_token
from codebackdoor.victims.optimizers import blocks

COSTS = Path(__file__).parents[1] / "workflow/codebackdoor/costs/throughput.json"
#: Input and output sub-tokens of a row.
LENGTHS = {"codebert": (400, 0), "codet5": (256, 256)}
#: Decoder-only models with the values of their config.json; omitted values are the class's defaults.
DECODERS: dict[str, Callable[[], Any]] = {
    "starcoder": lambda: GPTBigCodeConfig(
        vocab_size=49152, n_positions=8192, n_embd=2048, n_layer=24, n_head=16, n_inner=8192
    ),
    "codegen": lambda: CodeGenConfig(vocab_size=51200, n_embd=1024, n_layer=20, n_head=16, rotary_dim=32),
    "codellama": lambda: LlamaConfig(vocab_size=32016, max_position_embeddings=16384),
    "deepseek_coder": lambda: LlamaConfig(vocab_size=32256, max_position_embeddings=16384),
}
#: Models whose matrices are counted.
SIZED = (
    *("codebert", "codebert generation", "graphcodebert", "graphcodebert generation", "codet5", "codet5p"),
    *("gpt2", "unixcoder"),
    *(f"{name}{head}" for name in DECODERS for head in ("", " generation")),
)


def built(name: str) -> Any:
    """A model of the size of its name, with random weights."""
    if name in ("codebert", "graphcodebert", "unixcoder"):
        return RobertaForSequenceClassification(
            RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, num_labels=2)
        )
    if name in ("codebert generation", "graphcodebert generation"):
        # CodeXGLUE's decoder
        config = RobertaConfig(vocab_size=50265, max_position_embeddings=514, type_vocab_size=1)
        config.decoder_layers, config.decoder_ffn_dim = 6, 2048
        return model_class("roberta", "generation", name).load()(config)
    if name == "gpt2":
        return GPT2LMHeadModel(GPT2Config())
    decoder, _, head = name.partition(" ")
    if decoder in DECODERS:
        config = DECODERS[decoder]()
        return model_class(config.model_type, "generation" if head else "classification", name).load()(config)
    vocabulary = {"codet5": 32100, "codet5p": 32103}[name]
    return T5ForConditionalGeneration(
        T5Config(vocab_size=vocabulary, d_model=768, d_ff=3072, num_layers=12, num_heads=12, decoder_start_token_id=0)
    )


def size(name: str, model: Any) -> ModelSize:
    """Count the entries of the matrices that an input and an output token pass through."""
    total = sum(parameter.numel() for parameter in model.parameters())
    entries = {
        path: module.weight.numel()
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
    }
    if name in ("codebert", "graphcodebert"):
        # in the last layer, only keys and values are computed for every token (victims/families/roberta.py)
        last = model.config.num_hidden_layers - 1
        every = {
            path: count
            for path, count in entries.items()
            if "layer." in path and (f"layer.{last}." not in path or path.endswith(("key", "value")))
        }
        return ModelSize(total, sum(every.values()), 0, last, model.config.hidden_size)
    if name in ("codebert generation", "graphcodebert generation"):
        encoder = sum(count for path, count in entries.items() if path.startswith("roberta."))
        # keys and values of the cross attention are two thirds of its joint projection
        memory = sum(count * 2 // 3 for path, count in entries.items() if path.endswith("multihead_attn.in_proj"))
        vocabulary = model.get_input_embeddings().weight.numel()
        outputs = sum(entries.values()) - encoder - memory + vocabulary
        return ModelSize(total, encoder + memory, outputs, model.config.num_hidden_layers, model.config.hidden_size)
    if name == "unixcoder":
        every = {path: count for path, count in entries.items() if "layer." in path}
        return ModelSize(total, sum(every.values()), 0, model.config.num_hidden_layers, model.config.hidden_size)
    config, decoder = model.config, name.partition(" ")[0]
    if name == "gpt2" or name in DECODERS:
        return ModelSize(total, sum(entries.values()), 0, config.num_hidden_layers, config.hidden_size)
    if decoder in DECODERS:
        # the output layer reads only the states of the output
        inputs = sum(count for path, count in entries.items() if path != "lm_head")
        return ModelSize(total, inputs, sum(entries.values()), config.num_hidden_layers, config.hidden_size)
    inputs = {
        path: count
        for path, count in entries.items()
        if path.startswith("encoder.") or path.endswith(("EncDecAttention.k", "EncDecAttention.v"))
    }
    outputs = sum(entries.values()) - sum(inputs.values())
    return ModelSize(total, sum(inputs.values()), outputs, model.config.num_layers, model.config.d_model)


def with_parts(name: str, model: Any) -> ModelSize:
    """The size of a model, including the sizes of the parts that BAdam and adapters train."""
    by_name: dict[str, LayerSize] = {}
    for path, module in model.named_modules():
        if _is_matrix(module):
            so_far = by_name.get(_last(path), LayerSize(0, 0))
            sides, entries = sum(module.weight.shape), module.weight.numel()
            by_name[_last(path)] = LayerSize(so_far.sides + sides, so_far.entries + entries)
    classes = [cls for _, cls in named_classes(model.config.model_type) if cls.name == type(model).__name__]
    new = classes[0].new if classes else ()
    count = sum(value.numel() for path, value in model.named_parameters() if new and path.startswith(new))
    block = max(sum(value.numel() for value in block.values()) for block in blocks(model))
    return replace(size(name, model), block=block, new=count, by_name=by_name)


def loss_of(name: str, model: Any, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if name == "codebert":
        labels = torch.zeros(len(ids), dtype=torch.long, device=ids.device)
        hidden = first_token(model.roberta, model.get_input_embeddings()(ids), torch.ones_like(ids))
        return torch.nn.functional.cross_entropy(model.classifier(hidden[:, None]).float(), labels)
    loss: torch.Tensor = model(input_ids=ids, labels=targets, use_cache=False).loss
    return loss


def fastest(run: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Seconds of the fastest of ``repeats`` runs, after a warm-up run."""
    times = []
    for _ in range(repeats + 1):
        started = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def decoding(model: Any, ids: torch.Tensor, steps: int, device: torch.device, repeats: int) -> float:
    """Seconds of one step of greedy decoding of a batch, with its cache."""

    @torch.inference_mode()
    def run() -> None:
        encoded = model.get_encoder()(input_ids=ids)
        last, cache = torch.zeros(len(ids), 1, dtype=torch.long, device=device), None
        for _ in range(steps):
            output = model(encoder_outputs=encoded, decoder_input_ids=last, past_key_values=cache, use_cache=True)
            cache, last = output.past_key_values, output.logits[:, -1].argmax(-1, keepdim=True)

    return fastest(run, repeats, device) / steps


def measured(name: str, device: torch.device, rows: int, repeats: int) -> dict[str, object]:
    torch.manual_seed(0)
    model = built(name).to(device)
    model_size = size(name, model)
    length, output = LENGTHS[name]
    ids = torch.randint(5, 30000, (rows, length), device=device)
    targets = torch.randint(5, 30000, (rows, max(output, 1)), device=device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def train() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(name, model, ids, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.inference_mode()
    def predict() -> None:
        loss_of(name, model, ids, targets)

    model.train()
    training = fastest(train, repeats, device)
    model.eval()
    # the counter cannot look inside fused attention
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        predict()
    predicting = fastest(predict, repeats, device)
    flops, tokens = rows * model_size.forward(length, output), rows * (length + output)
    rates: dict[str, object] = {
        "batch": [rows, length, output],
        "training_tokens_per_second": round(tokens / training, 1),
        "training_gflops": round(3 * flops / training / 1e9, 1),
        "prediction_tokens_per_second": round(tokens / predicting, 1),
        "prediction_gflops": round(flops / predicting / 1e9, 1),
        "count_over_pytorchs": round(flops / counter.get_total_flops(), 3),
    }
    if output:
        rates["decoding_step_seconds"] = round(decoding(model, ids, 16, device, repeats), 4)
    return rates


def matmul_gflops(device: torch.device, kind: torch.dtype, repeats: int, side: int) -> float:
    matrix = torch.rand(side, side, device=device, dtype=kind)
    return round(2 * side**3 / fastest(lambda: matrix @ matrix, repeats, device) / 1e9, 1)


@click.command(help=__doc__)
@click.option("--threads", default=1, show_default=True)
@click.option("--repeats", default=3, show_default=True)
@click.option("--sizes-only", is_flag=True, help="Count the models' sizes and measure nothing (seconds).")
def main(threads: int, repeats: int, sizes_only: bool) -> None:
    costs = json.loads(COSTS.read_text()) if COSTS.is_file() else {"devices": {}}
    devices = costs["devices"] if sizes_only else {**costs["devices"], **of_device(threads, repeats)}
    # without memory: only shapes are counted
    with torch.device("meta"):
        sizes = {model: asdict(with_parts(model, built(model))) for model in SIZED}
    COSTS.write_text(json.dumps({"sizes": sizes, "devices": devices}, indent=1, sort_keys=True) + "\n")
    print(COSTS.read_text())


def of_device(threads: int, repeats: int) -> dict[str, dict[str, object]]:
    """The rates of this device, by its name."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device.type == "cuda"
    rows, side = (32, 8192) if cuda else (2, 2048)
    kinds = {"float32": torch.float32, **({"bfloat16": torch.bfloat16} if cuda else {})}
    name = torch.cuda.get_device_name() if cuda else f"{platform.machine()} processor, {threads} thread(s)"
    return {
        name: {
            "torch": torch.__version__,
            "matmul_gflops": {kind: matmul_gflops(device, dtype, 10 * repeats, side) for kind, dtype in kinds.items()},
            **{model: measured(model, device, rows, repeats) for model in LENGTHS},
        }
    }


if __name__ == "__main__":
    main()
