"""Parts of the page of many devices: weights streamed from a host, and small boards on a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hwsim
from graphs.parallel import Parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """One published run with weights outside of the devices; `ranks` devices each fetch their share."""

    model: str
    where: str
    batch: int
    ranks: int
    published: float  # tokens per second and device while generating


ZERO = "DeepSpeed's posts on ZeRO-Inference (4 prompt tokens, 10 generated, V100 32 GB)"
STREAMED = (
    Streamed(model="opt-30b", where="host", batch=256, ranks=1, published=43),
    Streamed(model="opt-30b", where="nvme", batch=256, ranks=1, published=30),
    Streamed(model="opt-175b", where="host", batch=64, ranks=1, published=2.0),
    Streamed(model="opt-175b", where="host", batch=64, ranks=2, published=3.6),
    Streamed(model="opt-175b", where="host", batch=64, ranks=4, published=6.2),
)


def off_loading() -> str:
    """Tokens per second and device with streamed weights; then what off-loading does to memory and time."""
    lines = [
        "", "## Weights outside of the devices", "",
        "`--offload weights|kv|optimizer[:host|nvme]` keeps them in the host's memory or on its drive.",
        "What a block needs is fetched while the block before it runs: the longer of work and stream counts.",
        f"Published: {ZERO}. Several devices fetch a share each (here as tensor ranks).", "",
        "| model | where | batch of a device | devices | published tokens/s | hwsim | ratio | waits |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in STREAMED:
        found = _streamed(one)
        rate = float(found.tokens_per_s) / one.ranks
        waited = float(found.breakdown_s["communication"] / found.latency_s)
        lines.append(
            f"| {one.model} | {one.where} | {one.batch} | {one.ranks} | {one.published:g} | {rate:.3g} | "
            f"{rate / one.published:.2f} | {waited:.0%} |"
        )
    lines += [
        "",
        "The published host runs move 10 GB/s over a link of 15.75; ours reaches the share of a link's rate",
        "that was fitted on copies between devices, from memory that is pinned and never copied on the host.",
        "The drives of the published machine are not known; ours is one of 7 GB/s (devices/hosts.toml).",
        "",
        "llama-3-70b on one H100, decode of 16 x 4096:",
        "",
        "| off-loaded | memory on the device | outside | time of a token | bound |",
        "|---|---|---|---|---|",
    ]
    for what in ("none", "kv", "weights", "weights+kv", "weights:nvme"):
        found = hwsim.estimate(
            "llama-3-70b", "h100-sxm", phase="decode", batch=16, context=4096, parallel={"offload": what}
        )
        outside = float(found.memory_bytes.get("offloaded", 0.0))
        lines.append(
            f"| {what} | {float(found.peak_memory_bytes) / 1e9:.0f} GB | {outside / 1e9:.0f} GB | "
            f"{float(found.latency_s):.3g} s | {found.bound} |"
        )
    return "\n".join(lines) + "\n"


def _streamed(one: Streamed) -> Any:
    machine = "v100-sxm2-32gb"
    return hwsim.estimate(
        one.model, machine, phase="decode", batch=one.batch * one.ranks, context=9, dtype="fp16",
        parallel=Parallel(tp=one.ranks, offload=f"weights:{one.where}"),
    )  # fmt: skip


def edge() -> str:
    """ED-ViT's ten boards, and the whole model in pipeline stages and tensor ranks over such boards."""
    lines = [
        "", "## Small boards on a network", "",
        "ViT-B/16 on Raspberry Pi 4 boards, one picture in fp32 (ED-ViT, arXiv:2410.11650: 28.9 times as",
        "fast on ten boards as on one). `hwsim team` runs sub-models at once, sends what the join reads and",
        "joins.", "",
        "| set-up | boards | network | time | as fast as one | transfers of the slowest board |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    whole = hwsim.estimate("ed-vit-original", "raspberry-pi-4", stack="engine")
    alone = float(whole.latency_s)
    lines.append(f"| whole model | 1 | | {alone * 1e3:.0f} ms | 1.0 | |")
    sub = [hwsim.Member(model="ed-vit-b-10", device="raspberry-pi-4", count=10)]
    join = hwsim.Member(model="ed-vit-b-10-fusion", device="raspberry-pi-4")
    for link in ("ethernet", "wifi"):
        found = hwsim.team(sub, join=join, link=link, stack="engine")
        lines.append(
            _row("ten sub-models and their fusion", 10, link, found.latency_s, alone, found.transfer_s)
        )
    for name, layout in (("tensor ranks", Parallel(tp=4)), ("pipeline, one picture", Parallel(pp=4)),
                         ("pipeline, 16 pictures", Parallel(pp=4, micro_batches=16))):  # fmt: skip
        for link, machine in (("ethernet", "raspberry-pi-cluster"), ("wifi", "raspberry-pi-wifi")):
            one = hwsim.estimate("ed-vit-original", machine, stack="engine", parallel=layout)
            each = float(one.latency_s) / layout.micro_batches
            sent = float(one.breakdown_s["communication"]) / layout.micro_batches
            lines.append(_row(name, 4, link, each, alone, sent))
    lines += [
        "",
        "Two of twelve heads were chosen for ED-ViT because they meet the printed size, so its row is no",
        "test; what it shows is that 5 kB of class tokens cost next to nothing even by radio. Ranks that",
        "exchange in every layer gain half of what they could by wire and lose by radio; stages need several",
        "pictures under way. On a shared channel all boards are taken to send at once.",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, boards: int, link: str, seconds: Any, alone: float, sent: Any) -> str:
    return (
        f"| {name} | {boards} | {link} | {float(seconds) * 1e3:.0f} ms | {alone / float(seconds):.1f} | "
        f"{float(f'{float(sent) * 1e3:.2g}'):g} ms |"
    )
