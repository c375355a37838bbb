"""The door: commands that parse, call one function and print. What they call is `hwsim` and `reports`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from graphs.catalog import VariantEntry
    from hwsim.requests import Request
    from hwsim.result import Estimate


class Door(TyperGroup):
    """Exit codes and one-line errors: 2 the request is wrong, 1 hwsim failed, 130 interrupted."""

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        given = args[0] if args else extra.pop("args", None)
        words = list(sys.argv[1:] if given is None else given)
        # the same name in help and completion when started with `python -m cli`
        extra["prog_name"] = "hwsim"
        debug = "--debug" in words
        words = [word for word in words if word != "--debug"]
        if not standalone_mode:
            return super().main(words, standalone_mode=False, **extra)
        try:
            code = super().main(words, standalone_mode=False, **extra)
        except (KeyboardInterrupt, typer.Abort):
            code = 130
        except Exception as error:
            if debug:
                raise
            code = _explain(error)
        sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    """Say in one line on stderr what is wrong; the exit code."""
    from devices.errors import DeviceError
    from graphs.errors import GraphError
    from hwsim.errors import HwsimError

    if hasattr(error, "format_message"):  # how typer says that the command line is wrong
        context = getattr(error, "ctx", None)
        where = f"; see `{context.command_path} --help`" if context else ""
        print(f"error: {_one_line(error.format_message()).rstrip('.')}{where}", file=sys.stderr)
        return 2
    if isinstance(error, GraphError | DeviceError | HwsimError):
        print(f"error: {_one_line(str(error))}", file=sys.stderr)
        return 2
    what = _one_line(f"{type(error).__name__}: {error}")
    print(f"hwsim failed: {what} (add --debug to see where)", file=sys.stderr)
    return 1


def _one_line(text: str) -> str:
    return " ".join(text.split())


# Plain help: it needs no rich to be imported and reads the same in every terminal.
app = typer.Typer(cls=Door, rich_markup_mode=None, pretty_exceptions_enable=False)
_models = typer.Typer(rich_markup_mode=None)
_devices = typer.Typer(rich_markup_mode=None)
_cache = typer.Typer(rich_markup_mode=None, help="List the traces that are kept, or forget them.")
app.add_typer(_models, name="models")
app.add_typer(_devices, name="devices")
app.add_typer(_cache, name="cache")


def _complete_model(incomplete: str) -> list[str]:
    from graphs.catalog import variant_names

    return [name for name in variant_names() if name.startswith(incomplete)]


def _complete_device(incomplete: str) -> list[str]:
    """Ids after the last comma of `-d a,b`."""
    import hwsim

    before, comma, begun = incomplete.rpartition(",")
    ids = [*(device.id for device in hwsim.devices()), "local"]
    return [f"{before}{comma}{id}" for id in ids if id.startswith(begun)]


def _complete_system(incomplete: str) -> list[str]:
    from hwsim.published.reading import systems

    return [name for name in systems() if name.startswith(incomplete)]


def _complete_machine(incomplete: str) -> list[str]:
    from devices import clusters

    ids = (one.id for one in clusters() if one.id.startswith(incomplete))
    return [*_complete_device(incomplete), *ids]


Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name from `hwsim models`, a saved graph.json, or file.py:function.",
        autocompletion=_complete_model,
        show_default=False,
    ),
]
Devices = Annotated[
    list[str],
    typer.Option(
        "--device",
        "-d",
        metavar="DEV[,DEV..]",
        help="Ids or aliases from `hwsim devices`, a profile.toml, or local.",
        autocompletion=_complete_device,
    ),
]
Phase = Annotated[str, typer.Option(metavar="P", help="One of those that `hwsim models` lists.")]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Sequences or images at once.")]
Seq = Annotated[int | None, typer.Option(metavar="N", help="New tokens per sequence.")]
Context = Annotated[int | None, typer.Option(metavar="N", help="Tokens already cached.")]
Dtype = Annotated[
    str | None, typer.Option(metavar="D", help="Of the arithmetic; the model's own if not given.")
]
Weights = Annotated[
    str | None, typer.Option(metavar="D", help="Of the weights in memory, such as int4:g128.")
]
Kv = Annotated[str | None, typer.Option(metavar="D", help="Of the KV cache, such as fp8.")]
Software = Annotated[str, typer.Option(metavar="S", help="The software: eager, compiled or engine.")]
Optimizer = Annotated[
    str | None, typer.Option(metavar="O", help="Of a training step: adamw, sgd, sgd-momentum or none.")
]
Checkpointing = Annotated[
    str | None, typer.Option(metavar="C", help="Of a training step: none, selective or full.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a size of the model, a device.PATH, stack.KEY or train.KEY, with units; repeatable.",
    ),
]
Generate = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="A whole request: N tokens after a prompt of --seq tokens."),
]
Tp = Annotated[int, typer.Option("--tp", metavar="N", min=1, help="Tensor ranks: heads and columns.")]
Pp = Annotated[int, typer.Option("--pp", metavar="N", min=1, help="Pipeline stages.")]
Dp = Annotated[int, typer.Option("--dp", metavar="N", min=1, help="Replicas, each with a batch.")]
Sp = Annotated[
    int, typer.Option("--sp", metavar="N", min=1, help="Sequence ranks: those of --tp, or a ring.")
]
Ep = Annotated[int, typer.Option("--ep", metavar="N", min=1, help="Expert ranks, each with a batch.")]
Offload = Annotated[
    str,
    typer.Option(
        "--offload",
        metavar="WHAT[:WHERE]",
        help="Weights, kv or optimizer, kept in the host's memory or on its nvme: weights, kv:nvme.",
    ),
]
Price = Annotated[str | None, typer.Option(metavar="$/H", help="Price of the device, such as 2.5/h.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a model with operators no rule knows.")]


@app.callback(invoke_without_command=True)
def hwsim(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Time, energy and memory of transformer models on hardware you do not own."""
    if version:
        from hwsim.version import VERSION

        print(f"hwsim {VERSION}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@_models.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    family: Annotated[str | None, typer.Option(help="Only one family, such as decoder.")] = None,
    as_json: Json = False,
) -> None:
    """List the built-in models, or show one."""
    if context.invoked_subcommand is not None:
        return
    from reports.cards import models_table
    from reports.records import models_record

    entries = _entries(family)
    if as_json:
        _print_json(models_record(entries))
    else:
        _show(models_table(entries))


def _entries(family: str | None) -> list[VariantEntry]:
    import hwsim
    from hwsim.errors import HwsimError

    entries = hwsim.models()
    families = sorted({entry.family for entry in entries})
    if family is not None and family not in families:
        raise HwsimError(f"no family '{family}'; families are {', '.join(families)}")
    return [entry for entry in entries if family in (None, entry.family)]


@_models.command("show")
def show_model(model: Model, as_json: Json = False) -> None:
    """What a model is, where it was published, its configuration and its open sizes."""
    import hwsim
    from reports.cards import model_card
    from reports.records import models_record

    entry = hwsim.model(model)
    if as_json:
        _print_json(models_record([entry]))
    else:
        _show(model_card(entry))


@_devices.callback(invoke_without_command=True)
def devices(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Only gpu, tpu, edge, cpu or accelerator.")] = None,
    as_json: Json = False,
) -> None:
    """List the devices, show one, or detect this machine."""
    if context.invoked_subcommand is not None:
        return
    import hwsim
    from devices import clusters
    from reports.devices import clusters_table, devices_table
    from reports.devices_record import catalogue_record
    from reports.records import devices_record

    found = hwsim.devices(kind)  # type: ignore[arg-type]  # an unknown kind is refused with the known ones
    if as_json:
        _print_json(catalogue_record(found, clusters()) if kind is None else devices_record(found))
    else:
        _show(devices_table(found), *([clusters_table(clusters())] if kind is None else []))


@_devices.command("show")
def show_device(
    device: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="An id or alias of a device or cluster, a profile.toml, or local.",
            autocompletion=_complete_machine,
            show_default=False,
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change a value, with units; repeatable."),
    ] = None,
    as_json: Json = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the machine to a .png, .svg or .pdf file.")
    ] = None,
) -> None:
    """Peaks, ridge points, memory levels, links, power, and where each number comes from.

    \b
    hwsim devices show h100-sxm --plot h100.png
    hwsim devices show h100-sxm --set memory.dram.bandwidth=5TB/s --set compute.units=160
    hwsim devices show dgx-h100
    """
    from devices import machine
    from reports.devices import machine_card
    from reports.devices_record import machine_record

    found = machine(device, **_settings(settings))
    if as_json:
        _print_json(machine_record(found))
    else:
        _show(machine_card(found))
    if plot is not None:
        from reports.machine import draw_machine

        draw_machine(found, plot)


@_devices.command("compare")
def compare_devices(
    devices: Annotated[
        list[str],
        typer.Argument(
            metavar="A B ...",
            help="Ids, aliases or profile.toml files; the first is what the others are set against.",
            autocompletion=_complete_device,
            show_default=False,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Devices side by side, each number also as a multiple of the first device's."""
    import hwsim
    from reports.devices_compare import comparison_record, comparison_table

    found = [hwsim.device(one) for one in devices]
    if as_json:
        _print_json(comparison_record(found))
    else:
        _show(comparison_table(found))


@_devices.command("detect")
def detect(as_json: Json = False) -> None:
    """What this machine is: its CPU (device `local`) and the GPUs that their drivers tell of."""
    from devices.detect import survey
    from reports.devices import device_card
    from reports.records import devices_record

    found = survey()
    for line in found.skipped:
        print(f"warning: {line}", file=sys.stderr)
    if as_json:
        _print_json(devices_record(found.devices))
    else:
        _show(*(device_card(one) for one in found.devices))


@app.command()
def estimate(
    model: Model,
    device: Devices,
    phase: Phase = "forward",
    batch: Batch = None,
    seq: Seq = None,
    context: Context = None,
    dtype: Dtype = None,
    weights: Weights = None,
    kv: Kv = None,
    stack: Software = "compiled",
    optimizer: Optimizer = None,
    checkpointing: Checkpointing = None,
    tp: Tp = 1,
    pp: Pp = 1,
    dp: Dp = 1,
    sp: Sp = 1,
    ep: Ep = 1,
    offload: Offload = "none",
    settings: Settings = None,
    generate: Generate = None,
    by: Annotated[
        str | None, typer.Option(metavar="WHAT", help="Also a table by op, kind, module or phase.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Lines of that table.")] = 20,
    as_json: Json = False,
    strict: Strict = False,
    price: Price = None,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw roofline, modules and memory to a .png, .svg or .pdf."),
    ] = None,
    trace_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the timeline for ui.perfetto.dev.")
    ] = None,
) -> None:
    """Latency, energy and memory of a model on one or more devices.

    \b
    hwsim estimate bert-base -d h100-sxm --batch 8
    hwsim estimate llama-3-8b -d h100-sxm,l4 --phase decode --context 4096 --by module
    hwsim estimate llama-3-8b -d l4 --phase decode --weights int4:g128 --kv fp8
    hwsim estimate llama-3-8b -d l4,h100-sxm --seq 2048 --generate 256
    hwsim estimate llama-3-70b -d dgx-h100 --tp 8 --phase decode --batch 16
    hwsim estimate llama-3-70b -d rtx-4090 --phase decode --batch 32 --offload weights
    hwsim estimate vit-b-16 -d tpu-v4 --set device.memory.dram.bandwidth=2TB/s
    """
    import hwsim

    asked: dict[str, Any] = {
        "batch": batch,
        "dtype": dtype,
        "weights": weights,
        "kv": kv,
        "stack": stack,
        "parallel": {"tp": tp, "pp": pp, "dp": dp, "sp": sp, "ep": ep, "offload": offload},
        "strict": strict,
        "price": _price(price),
        "overrides": _settings(settings),
    }
    if generate is not None:
        steps = {"--optimizer": optimizer, "--checkpointing": checkpointing}
        one = {"--phase": phase != "forward", "--by": by, "--plot": plot, "--trace-out": trace_out}
        _one_phase_only({**one, **steps})
        asked |= {"generate": generate, "prompt": seq, "context": context or 0}
        _print_requests(hwsim.request(model, _split(device), **asked), as_json)
        return
    found: list[Estimate] = hwsim.estimate(
        model, _split(device), phase=phase, seq=seq, context=context,
        optimizer=optimizer, checkpointing=checkpointing, **asked,
    )  # fmt: skip
    _warn(warning for one in found for warning in one.warnings)
    if as_json:
        _print_documents(found)
    else:
        _show_estimates(found, by, top)
    if plot is not None:
        from reports.sheet import draw_sheet

        draw_sheet(found, plot)
    if trace_out is not None:
        from reports.perfetto import write_trace

        write_trace(found, trace_out)


@app.command()
def compare(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Names from `hwsim models`, saved graph.json files, or file.py:function.",
            autocompletion=_complete_model,
            show_default=False,
        ),
    ],
    device: Devices,
    over: Annotated[
        str | None,
        typer.Option(metavar="RANGE", help="NAME=LOW:HIGH doubling, NAME=LOW:HIGH:COUNT, or NAME=A,B,C."),
    ] = None,
    metric: Annotated[
        str, typer.Option(metavar="M", help="By latency, energy, memory or tokens; ttft or tpot of requests.")
    ] = "latency",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="One of the models: where others cross it, and how many times better they are.",
            autocompletion=_complete_model,
        ),
    ] = None,
    phase: Phase = "forward",
    batch: Batch = None,
    seq: Seq = None,
    context: Context = None,
    dtype: Dtype = None,
    weights: Weights = None,
    kv: Kv = None,
    stack: Software = "compiled",
    optimizer: Optimizer = None,
    checkpointing: Checkpointing = None,
    settings: Settings = None,
    generate: Generate = None,
    as_json: Json = False,
    strict: Strict = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the curves to a .png or .svg file.")
    ] = None,
) -> None:
    """Models and devices side by side, and where one overtakes another.

    \b
    hwsim compare bert-base vit-b-16 swin-t -d l4,jetson-orin-agx
    hwsim compare llama-2-7b llama-3-8b -d h100-sxm --phase decode --batch 16 --over context=64:4095
    hwsim compare llama-3-8b -d l4,h100-sxm --phase decode --over batch=1:64 --metric energy --plot e.png
    hwsim compare llama-3-8b -d l4,h100-sxm --generate 256 --over seq=512:8192 --metric ttft
    """
    import hwsim
    from reports.compare import comparison_table

    if generate is not None:
        _one_phase_only({"--phase": phase != "forward"})
    found = hwsim.compare(
        models,
        _split(device),
        over=over,
        metric=metric,
        against=against,
        phase=phase,
        generate=generate,
        batch=batch,
        seq=seq,
        context=context,
        dtype=dtype,
        weights=weights,
        kv=kv,
        stack=stack,
        optimizer=optimizer,
        checkpointing=checkpointing,
        strict=strict,
        overrides=_settings(settings),
    )
    _warn(found.warnings)
    if as_json:
        _print_json(found.to_dict())
    else:
        _show(comparison_table(found))
    if plot is not None:
        from reports.compare_plot import draw_comparison

        draw_comparison(found, plot)


@app.command()
def sweep(
    spec: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SPEC.toml]", help="What to sweep; flags replace its keys.", show_default=False
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="M[,M..]", help="Models, as in estimate.", autocompletion=_complete_model
        ),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--device", "-d", metavar="DEV[,DEV..]", help="Devices.", autocompletion=_complete_device
        ),
    ] = None,
    phase: Annotated[list[str] | None, typer.Option(metavar="P[,P..]", help="Phases.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(metavar="D[,D..]", help="Of the arithmetic.")] = None,
    weights: Annotated[list[str] | None, typer.Option(metavar="D[,D..]", help="Of the weights.")] = None,
    kv: Annotated[list[str] | None, typer.Option(metavar="D[,D..]", help="Of the KV cache.")] = None,
    stack: Annotated[list[str] | None, typer.Option(metavar="S[,S..]", help="Software stacks.")] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="A size, device.PATH, stack.KEY or coefficient.NAME over A,B,C or LOW:HIGH (doubling) or "
            "LOW:HIGH:COUNT[:linear], or drawn from LOW:HIGH:linear or LOW:HIGH:log; repeatable.",
        ),
    ] = None,
    settings: Settings = None,
    samples: Annotated[
        int | None, typer.Option(metavar="N", help="Points drawn from the axes that are ranges.")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(metavar="M", help="Of drawing: random, lhs or sobol; of a search: nsga2, tpe."),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Of drawing or searching.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="COND", help="Such as 'latency < 50ms and fits'; repeatable."),
    ] = None,
    minimize: Annotated[
        list[str] | None, typer.Option(metavar="X", help="latency, energy, memory, ..., or an expression.")
    ] = None,
    maximize: Annotated[list[str] | None, typer.Option(metavar="X", help="As --minimize.")] = None,
    price: Annotated[str | None, typer.Option(metavar="$/H", help="Price of the device.")] = None,
    skip: Annotated[
        bool, typer.Option("--skip-impossible", help="Leave out what a model does not allow.")
    ] = False,
    search: Annotated[
        int | None, typer.Option(metavar="N", help="Look for good points in N trials instead of pricing all.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the table there, as Parquet files.")
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="And a page of what --out holds, as `hwsim report`."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Finish what --out holds.")] = False,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes; all cores if not given.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Scheduler of a dask cluster to use instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Price a whole space of designs: what nothing beats, and what matters.

    \b
    hwsim sweep examples/sweeps/systolic.toml --out out/systolic --report out/systolic.html
    hwsim sweep -m llama-3-8b -d h100-sxm,l4 --phase decode --axis batch=1:256 --axis context=1024:4096 \\
        --where fits --minimize latency --minimize cost
    hwsim sweep -m vit-b-16 -d tpu-v4 --axis device.memory.dram.bandwidth=200GB/s:4TB/s:log \\
        --axis batch=1:64:log --search 500 --maximize tokens_per_s/average_power_w
    """
    import hwsim
    from hwsim.sweeps.spec import with_flags
    from hwsim.sweeps.summary import summarize, summary_document
    from reports.progress import sweep_progress
    from reports.sweep_summary import sweep_summary

    if page is not None and out is None:
        raise hwsim.HwsimError("--report draws what --out holds; give --out DIR as well")
    drawn = {"points": samples, "method": method, "seed": seed} if search is None else {}
    tried = {"method": method, "seed": seed} if search is not None else {}
    flags = {
        "model": _several(model),
        "device": _several(device),
        "phase": _several(phase),
        "dtype": _several(dtype),
        "weights": _several(weights),
        "kv": _several(kv),
        "stack": _several(stack),
        "axes": _pairs("--axis", axis, "batch=1:64"),
        "set": _settings(settings),
        "sample": {name: value for name, value in drawn.items() if value is not None},
        "search": {name: value for name, value in tried.items() if value is not None},
        "where": where,
        "minimize": minimize,
        "maximize": maximize,
        "price": price,
        "impossible": "skip" if skip else None,
    }
    try:
        with sweep_progress() as progress:
            result = hwsim.sweep(
                with_flags(spec, flags),
                out=out,
                resume=resume,
                workers=workers,
                cluster=cluster,
                search=search,
                progress=progress,
            )
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        raise
    _warn(result.warnings)
    summary = summarize(result)
    if as_json:
        _print_json(summary_document(result, summary))
    else:
        _show(sweep_summary(result, summary))
    if page is not None and out is not None:
        from reports.writing import write_report

        print(write_report(out, page), file=sys.stderr)


@app.command()
def report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="DIR_OR_FILE",
            help="A directory that `hwsim sweep --out` wrote, a Parquet file, or the output of "
            "`hwsim estimate --json`.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write; the suffix is the format.")
    ] = Path("report.html"),
    form: Annotated[
        str | None, typer.Option("--format", metavar="F", help="html, md, pdf or png, whatever the suffix.")
    ] = None,
) -> None:
    """Turn a sweep into a page to look at: words, figures, and a table to sort and filter.

    \b
    hwsim report out/systolic --out systolic.html
    hwsim report out/systolic --out systolic.pdf
    """
    from reports.writing import write_report

    print(write_report(source, out, form))


@app.command()
def advise(
    model: Model,
    device: Annotated[
        str,
        typer.Option(
            "--device",
            "-d",
            metavar="DEV",
            help="An id or alias of a device or cluster, a profile.toml, or local.",
            autocompletion=_complete_device,
        ),
    ],
    goal: Annotated[
        str, typer.Option(metavar="G", help="Rank by latency, throughput, energy, memory or cost.")
    ] = "latency",
    phase: Phase = "forward",
    batch: Batch = None,
    seq: Seq = None,
    context: Context = None,
    dtype: Dtype = None,
    weights: Weights = None,
    kv: Kv = None,
    stack: Software = "compiled",
    tp: Tp = 1,
    pp: Pp = 1,
    dp: Dp = 1,
    sp: Sp = 1,
    ep: Ep = 1,
    offload: Offload = "none",
    settings: Settings = None,
    as_json: Json = False,
    strict: Strict = False,
    price: Price = None,
) -> None:
    """What another dtype, stack, kernel, batch, layout or device would buy, and which limit it relieves.

    \b
    hwsim advise llama-3-8b -d h100-sxm --phase decode --batch 8 --context 4096
    hwsim advise llama-3-70b -d dgx-h100 --tp 4 --phase decode --batch 16
    hwsim advise bert-base -d l4 --batch 8 --goal energy
    """
    import hwsim
    from reports.advice import advice_table

    advice = hwsim.advise(
        model,
        device,
        goal=goal,
        phase=phase,
        batch=batch,
        seq=seq,
        context=context,
        dtype=dtype,
        weights=weights,
        kv=kv,
        stack=stack,
        parallel={"tp": tp, "pp": pp, "dp": dp, "sp": sp, "ep": ep, "offload": offload},
        strict=strict,
        price=_price(price),
        overrides=_settings(settings),
    )
    if as_json:
        _print_json(advice.to_dict())
    else:
        _show(advice_table(advice))


@app.command()
def team(
    members: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL@DEVICE[*N]...",
            help="What works at once: a model on a device, or on each of N.",
            show_default=False,
        ),
    ],
    join: Annotated[
        str | None,
        typer.Option(metavar="MODEL@DEVICE", help="The model that reads what the members made."),
    ] = None,
    over: Annotated[
        str | None,
        typer.Option(metavar="LINK", help="The link class between them, such as ethernet or wifi."),
    ] = None,
    batch: Batch = None,
    dtype: Dtype = None,
    stack: Software = "compiled",
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Models on devices of their own at once, and one that joins what they made.

    \b
    hwsim team ed-vit-b-10@raspberry-pi-4*10 --join ed-vit-b-10-fusion@raspberry-pi-4 --over ethernet
    hwsim team ed-vit-b-10@raspberry-pi-4*5 ed-vit-b-10@jetson-nano*5 --join ed-vit-b-10-fusion@jetson-nano
    """
    import hwsim
    from reports.team import team_table

    found = hwsim.team(
        [hwsim.Member.read(one) for one in members],
        join=None if join is None else hwsim.Member.read(join),
        link=over,
        batch=batch,
        dtype=dtype,
        stack=stack,
        overrides=_settings(settings),
    )
    _warn(found.warnings)
    if as_json:
        _print_json(found.to_dict())
    else:
        _show(team_table(found))


@app.command()
def plan(
    model: Model,
    ttft: Annotated[str, typer.Option(metavar="T", help="Time to first token at most, such as 500ms.")],
    tpot: Annotated[str, typer.Option(metavar="T", help="Time per further token at most, such as 50ms.")],
    prompt: Annotated[int, typer.Option(metavar="N", help="Tokens of a prompt.")] = 2048,
    generate: Annotated[int, typer.Option(metavar="N", help="Tokens of an answer.")] = 256,
    device: Annotated[
        list[str] | None,
        typer.Option(
            "--devices",
            "-d",
            metavar="DEV[,DEV..]",
            help="Ids, aliases or profiles; all that have a price if not given.",
            autocompletion=_complete_device,
        ),
    ] = None,
    rate: Annotated[float | None, typer.Option(metavar="N", help="Requests per second to serve.")] = None,
    goal: Annotated[str, typer.Option(metavar="G", help="Rank by cost, energy or latency.")] = "cost",
    quantize: Annotated[
        bool, typer.Option("--quantize", help="Try weights of 8 and 4 bits, and fp8, as well.")
    ] = False,
    sure: Annotated[
        bool, typer.Option("--sure", help="The upper ends of the intervals must meet the times too.")
    ] = False,
    dtype: Dtype = None,
    stack: Software = "engine",
    price: Annotated[
        list[str] | None,
        typer.Option("--price", metavar="DEV=$/H", help="Price of a device, such as l4=0.7; repeatable."),
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", help="Set-ups to show.")] = 10,
    as_json: Json = False,
) -> None:
    """The cheapest set-up that serves requests within a time to first token and per token.

    \b
    hwsim plan llama-3-8b --ttft 500ms --tpot 50ms --prompt 2048 --generate 256
    hwsim plan llama-3-8b --ttft 1s --tpot 60ms --rate 20 --quantize --devices l4,a10g,l40s,h100-sxm
    """
    import hwsim
    from devices import parse_quantity
    from reports.plan import plan_table

    prices = {name: _price(text) for name, text in _pairs("--price", price, "l4=0.7").items()}
    found = hwsim.plan(
        model,
        ttft=parse_quantity(ttft, "second"),
        tpot=parse_quantity(tpot, "second"),
        prompt=prompt,
        generate=generate,
        devices=None if device is None else _split(device),
        rate=rate,
        goal=goal,
        quantize=quantize,
        sure=sure,
        dtype=dtype,
        stack=stack,
        prices={name: value for name, value in prices.items() if value is not None},
    )
    _warn(found.warnings)
    if as_json:
        _print_json(found.to_dict())
    else:
        _show(plan_table(found, top))


@app.command()
def trace(
    model: Model,
    phase: Phase = "forward",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SIZE=N", help="Trace with this size as a plain number; repeatable."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the graph as JSON.")] = None,
    as_json: Json = False,
    strict: Strict = False,
) -> None:
    """Trace a model once, with symbolic sizes, and say how each size was obtained."""
    import hwsim
    from graphs.serial import to_json
    from hwsim.errors import HwsimError
    from reports.cards import trace_table
    from reports.files import write_text
    from reports.records import trace_record

    fixed = {name: _whole(name, text) for name, text in _settings(settings).items()}
    graph = hwsim.trace(model, phase=phase, fixed=fixed)
    unknown = ", ".join(dict.fromkeys(name for name, _ in graph.unknown_ops()))
    if strict and unknown:
        raise HwsimError(f"{model} has operators no rule knows: {unknown}; leave out --strict to go on")
    if out is not None:
        write_text(out, to_json(graph))
    if as_json:
        _print_json(trace_record(graph))
    else:
        _show(trace_table(graph))


@app.command()
def calibrate(
    sources: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE", help="A table of measurements (.csv, .csv.gz); repeatable."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", "-d", metavar="DEV", help="The machine to time operators on: local.")
    ] = "",
    scope: Annotated[
        str, typer.Option(metavar="S", help="What is fitted: device, generation or engine.")
    ] = "device",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Coefficient file or folder; the user's own folder if not given."),
    ] = None,
    surface: Annotated[
        bool, typer.Option(help="Whether sizes near measured ones follow the measured kernels themselves.")
    ] = True,
    minutes: Annotated[float, typer.Option(metavar="M", help="About how long to time operators.")] = 3.0,
    threads: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of torch; one per core if not given.")
    ] = None,
    refit: Annotated[
        bool, typer.Option("--refit", help="With -d local: time nothing, fit once more what was timed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fit coefficients to measurements; estimates find the files that it writes.

    With -d local operators are timed here; interrupted, it goes on where it was.

    \b
    hwsim calibrate -d local
    hwsim calibrate --from gemm.csv --from attention.csv.gz
    hwsim calibrate --from gemm.csv --scope generation --out coefficients/
    """
    import hwsim
    from reports.progress import progress_bar

    try:
        with progress_bar() as progress:
            found = hwsim.calibrate(
                sources or (),
                device=device,
                scope=scope,  # type: ignore[arg-type]  # checked there
                out=out,
                surface=surface,
                minutes=minutes,
                threads=threads,
                refit=refit,
                progress=progress,
            )
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        raise
    if as_json:
        _print_json(found.to_dict())
    else:
        from reports.calibration import calibration_table

        _show(calibration_table(found))


@app.command()
def claims(
    systems: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID...|FILE]",
            help="Published systems, or a claims file of your own (.toml); all systems if not given.",
            autocompletion=_complete_system,
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute published cost figures again: what was printed, ours, the ratio and a verdict.

    \b
    hwsim claims smt biformer
    hwsim claims --json > claims.json
    """
    import hwsim

    found = hwsim.claims(systems or None)
    if as_json:
        _print_json(found.to_dict())
    else:
        from reports.claims import claims_tables

        _show(claims_tables(found))


@app.command()
def validate(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL...",
            help="Names from `hwsim models`.",
            autocompletion=_complete_model,
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", "-d", metavar="DEV", help="The machine to run on: local.")
    ] = "local",
    phase: Phase = "forward",
    batch: Batch = None,
    seq: Seq = None,
    context: Context = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="D", help="To run in; the model's own if not given.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="As in `hwsim estimate`; repeatable."),
    ] = None,
    stack: Annotated[
        str, typer.Option(metavar="S", help="eager, or compiled: torch.compile is run and predicted.")
    ] = "eager",
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Over all models, spread in time.")] = 3,
    minutes: Annotated[float, typer.Option(metavar="M", help="About how long to measure.")] = 1.5,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw to this .png or .svg and NAME-kinds beside it; validation-local.png if not given, "
            "nothing with --json.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was measured and predicted as CSV.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append what was measured to this table (.csv).")
    ] = None,
    measurements: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Answer a table of measurements (.csv or .csv.gz); runs nothing."),
    ] = None,
    layouts: Annotated[
        bool, typer.Option("--layouts", help="List the tables that are known, by their columns.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run models on this machine with torch and show what was measured beside what is predicted.

    With --measurements the measured side is a file, recognised by its columns.

    \b
    hwsim validate bert-base gpt2 vit-b-16 -d local
    hwsim validate gpt2 --phase decode --context 512 --minutes 0.5
    hwsim validate --measurements gemm.csv.gz --out predictions.csv --plot parity.png
    """
    if layouts:
        _show_layouts(as_json)
        return
    if measurements is not None:
        _validate_file(measurements, models, out, plot, as_json)
        return
    import hwsim
    from hwsim.errors import HwsimError
    from reports.files import write_text
    from reports.parity import draw_validation, figure_paths
    from reports.progress import progress_bar

    if not models:
        raise HwsimError(
            "Missing argument 'MODEL...'; see `hwsim validate --help`, or give --measurements FILE"
        )
    wanted = plot or Path(f"validation-{device}.png")
    figures = () if as_json and plot is None else figure_paths(wanted)
    with progress_bar() as progress:
        found = hwsim.validate(
            models,
            device,
            phase=phase,
            batch=batch,
            seq=seq,
            context=context,
            dtype=dtype,
            stack=stack,
            rounds=rounds,
            minutes=minutes,
            overrides=_settings(settings),
            progress=progress,
        )
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if save is not None:
        from reports.validation import save_measurements

        save_measurements(found, save)
    if out is not None:
        from reports.validation import predictions_csv

        write_text(out, predictions_csv(found))
    if as_json:
        _print_json(found.to_dict())
    else:
        from reports.validation import validation_tables

        _show(validation_tables(found))
    if figures:
        draw_validation(found, wanted)
    if figures and not as_json:
        _show("", f"figures: {', '.join(map(str, figures))}")


def _validate_file(
    measurements: Path, models: list[str] | None, out: Path | None, plot: Path | None, as_json: bool
) -> None:
    """Answer every row of a table of measurements."""
    from hwsim.errors import HwsimError
    from hwsim.measurements.judging import document, judge
    from hwsim.measurements.predicting import predict
    from hwsim.measurements.writing import write_predictions

    if models:
        raise HwsimError(f"--measurements answers a file and runs nothing; leave out {' '.join(models)}")
    made = predict(measurements)
    judged = judge(made)
    if out is not None:
        write_predictions(made, out)
    if plot is not None:
        from reports.measured_plot import draw_measured

        draw_measured(made, plot)
    if as_json:
        _print_json(document(made, judged))
    else:
        from reports.measured import measured_tables

        _show(measured_tables(made, judged))


def _show_layouts(as_json: bool) -> None:
    from hwsim.measurements.predicting import layouts
    from reports.measured import layouts_record, layouts_table

    if as_json:
        _print_json(layouts_record(layouts()))
    else:
        _show(layouts_table(layouts()))


def _show_estimates(found: list[Estimate], by: str | None, top: int) -> None:
    from hwsim.grouping import longest
    from reports.table import estimate_summary, estimates_table, group_table

    parts = [estimate_summary(found[0]) if len(found) == 1 else estimates_table(found)]
    if by is not None:
        for one in found:
            title = f"\n{one.model} on {one.device} by {by}"
            parts.append(group_table(longest(one.by(by), top), title))
    _show(*parts)


def _one_phase_only(given: dict[str, Any]) -> None:
    """Refuse what shows a single phase beside a whole request, which has two."""
    from hwsim.errors import HwsimError

    for option, value in given.items():
        if value:
            raise HwsimError(f"{option} is about one phase and --generate about two; leave one out")


def _print_requests(found: list[Request], as_json: bool) -> None:
    from reports.request import request_summary, requests_table

    _warn(warning for one in found for warning in one.warnings)
    if as_json:
        _print_documents(found)
    else:
        _show(request_summary(found[0]) if len(found) == 1 else requests_table(found))


@_cache.command("list")
def cache_list() -> None:
    """The traces that are kept, and where."""
    from graphs.trace import cache_folder

    folder = cache_folder()
    print(folder)
    for path in sorted(folder.glob("*.json")):
        print(path.name)


@_cache.command("clear")
def cache_clear() -> None:
    """Forget all traces; they are made again when needed."""
    from graphs.trace import cache_folder

    paths = list(cache_folder().glob("*.json"))
    for path in paths:
        path.unlink(missing_ok=True)
    print(f"{len(paths)} traces removed")


def _several(texts: Iterable[str] | None) -> list[str] | None:
    """Names of `a,b` and of repeated flags."""
    return [name.strip() for text in texts for name in text.split(",") if name.strip()] if texts else None


def _settings(texts: Iterable[str] | None) -> dict[str, Any]:
    """`key=value` texts; units and numbers are read where the key is known."""
    from devices import parse_quantity

    known: dict[str, Any] = {"true": True, "false": False}
    found = {key: known.get(value, value) for key, value in _pairs("--set", texts, "seq=2048").items()}
    for key in found:
        if key.startswith("coefficient."):
            found[key] = parse_quantity(found[key], "number")
    return found


def _pairs(flag: str, texts: Iterable[str] | None, example: str) -> dict[str, str]:
    from hwsim.errors import HwsimError

    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value):
            raise HwsimError(f"{flag} {text}: write key=value, such as {example}")
        if key in found:
            raise HwsimError(f"{flag} {key} is given twice; keep one")
        found[key] = value
    return found


def _whole(name: str, text: Any) -> int:
    from hwsim.errors import HwsimError

    try:
        return int(text)
    except ValueError:
        raise HwsimError(f"--set {name}={text}: a size is a whole number") from None


def _price(text: str | None) -> float | None:
    """USD per hour of `2.5/h`, `$2.5/h` or `2.5 $/h`."""
    from devices import parse_quantity

    return (
        None
        if text is None
        else parse_quantity(f"{text.replace('$', '').removesuffix('/h')} $/h", "usd_per_hour")
    )


def _split(texts: Iterable[str]) -> list[str]:
    from hwsim.errors import HwsimError

    names = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    if not names:
        raise HwsimError("--device names no device; `hwsim devices` lists all")
    return names


def _show(*parts: Any) -> None:
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)
    for part in parts:
        console.print(part)


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


def _print_documents(found: Sequence[Estimate | Request]) -> None:
    """One document for one result, a list for several."""
    documents = [one.to_dict() for one in found]
    _print_json(documents[0] if len(documents) == 1 else documents)


def _print_json(document: Any) -> None:
    print(json.dumps(document, allow_nan=False))


if __name__ == "__main__":
    app()
