"""Measure on a GPU what docs mark as not measured on one. Start it by experiments/gpu.sh.

    bash experiments/gpu.sh [--toy] [--output FILE.json] [--minutes M] [--parts NAME ...]

Parts run in order of worth, each in a process of its own with a time limit. Errors are in the file too.
The file is rewritten after every number. Run again, the command goes on with the parts that have not run;
--parts runs those named, anew. Logs, and the random models that training starts from, are beside the file.

| part | what | items in docs that it covers |
|---|---|---|
| tests | tests that skip without CUDA | encoders.md: `device`, `dtype`, methods on CUDA |
| encode | passages a second, shapes of Llama-3.1-8B and 3.2-1B | speed.md: "On a GPU: not measured" |
| head | memory and time of the head, bf16 and fp16 | training.md: "Memory and speed of the head" |
| quantization | speed and model memory per method, both shapes | efficiency.md: "Not measured", "computed" |
| training | 200 contrastive steps, LoRA, 1B shape | training.md: "FSDP and CUDA: not measured" |
| equal-runs | resumed, DDP and FSDP runs lose as a plain one | training.md: "FSDP and CUDA: not measured" |
| back-off | out-of-memory on the device, same vectors | corpora.md: batches that are halved |

Random weights tell speed and memory, not effectiveness. These items need weights that a bare machine does
not have: `csplade-bi-smol-full` (training.md), scores of 8B models (efficiency.md, reproductions.md).
"""

import argparse
import contextlib
import importlib
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path += [str(HERE / "bench")]  # train_head imports head_memory as scripts in one folder do
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
os.environ.setdefault(
    "PYTORCH_NVML_BASED_CUDA_CHECK", "1"
)  # else a question for CUDA on import forbids to fork

from gpu_parts import backoff, contrast, encoding, equal_runs, heads, machine, quantized, tests  # noqa: E402
from gpu_parts.children import START_METHOD, ChildError, Send, call, forked  # noqa: E402
from gpu_parts.record import ERROR, ITEM_SECONDS, Record, Report, date, has_error  # noqa: E402
from gpu_parts.scale import GPU, TOY, Scale  # noqa: E402

from csplade_pyserini.errors import InputError  # noqa: E402


class Part(NamedTuple):
    """One part: what it runs, and its share of the time."""

    run: Callable[[Scale, Path, Record], None]
    seconds: int
    """Time limit."""
    needs: int
    """Least time that is worth starting with."""


PARTS = {
    "tests": Part(tests.run, 150, 40),
    "encode": Part(encoding.run, 330, 120),
    "head": Part(heads.run, 120, 40),
    "quantization": Part(quantized.run, 480, 120),
    "training": Part(contrast.run, 420, 150),
    "equal-runs": Part(equal_runs.run, 240, 120),
    "back-off": Part(backoff.run, 240, 90),
}


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    scale = TOY if args.toy else GPU
    output: Path = args.output
    report = Report(output, about(args))
    deadline = time.monotonic() + 60 * args.minutes
    if scale.toy:
        preload()
    report.table["device"] = find_device(scale)
    report.write()
    if ERROR in report.table["device"]:
        print(report.table["device"][ERROR], file=sys.stderr)
        return 2
    for name in args.parts or [name for name in PARTS if not report.part(name)]:
        left = deadline - time.monotonic()
        if left < PARTS[name].needs * (not args.toy):
            print(f"{name:14} not started: {left:.0f} s left; run the command again", file=sys.stderr)
            continue
        run_part(name, scale, report, min(left, PARTS[name].seconds * scale.patience))
    return exit_code(report)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="gpu.sh", description=__doc__ or "", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--toy", action="store_true", help="toy shapes on a CPU: a rehearsal")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.json",
        help="default work/gpu/gpu.json, with --toy work/gpu-toy/gpu.json",
    )
    parser.add_argument("--minutes", type=float, default=25, help="time for all parts (default 25)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="NAME", help=f"of {', '.join(PARTS)}")
    args = parser.parse_args(argv)
    args.output = args.output or ROOT / "work" / ("gpu-toy" if args.toy else "gpu") / "gpu.json"
    return args


def about(args: argparse.Namespace) -> dict[str, Any]:
    """Command, versions and date, at the head of the file."""
    words = shlex.join(sys.argv[1:])
    return {
        "command": f"bash experiments/gpu.sh {words}".strip(),
        "date": date(),
        "toy": args.toy,
        "commit": machine.commit(ROOT),
        "versions": machine.versions(),
    }


def preload() -> None:
    """Import once what all training runs need. Not where there is CUDA: an import might use it."""
    with contextlib.suppress(ImportError, InputError):
        importlib.import_module("csplade_pyserini.training.contrast")
        importlib.import_module("peft")


def find_device(scale: Scale) -> dict[str, Any]:
    """Describe the device, or say why there is none. Uses new interpreters if forks cannot use it."""
    found: dict[str, Any] = answer_or_error(machine.device, scale.device)
    if "re-initialize CUDA in forked" in found.get(ERROR, ""):
        os.environ[START_METHOD] = "spawn"
        found = answer_or_error(machine.device, scale.device)
    return found


def answer_or_error(function: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """Call a function in a process of its own; return its answer or its error."""
    try:
        found: dict[str, Any] = call(function, *args, seconds=120)
    except ChildError as error:
        return {ERROR: str(error)}
    return found


def run_part(name: str, scale: Scale, report: Report, seconds: float) -> None:
    """Run a part; write the file after each of its numbers."""
    part = report.begin(name)
    log = report.path.parent / f"{name}.log"
    begin = time.monotonic()
    try:
        for results in forked(_run, PARTS[name].run, scale, report.path.parent, seconds=seconds, log=log):
            part["results"] = results
            part["seconds"] = round(time.monotonic() - begin, 2)
            report.write()
        part["state"] = "failed" if has_error(part["results"]) else "done"
    except ChildError as error:
        part["state"] = "failed"
        part[ERROR] = str(error)
        part["log"] = log.read_text(encoding="utf-8", errors="replace")[-2000:] if log.is_file() else ""
    part["device"] = report.table["device"]["name"]
    part["versions"] = {name: report.table["versions"][name] for name in ("torch", "transformers")}
    part["seconds"] = round(time.monotonic() - begin, 2)
    report.write()
    print(f"{name:14} {part['state']:8} {part['seconds']:7.1f} s", file=sys.stderr)


def _run(send: Send, run: Callable[..., None], scale: Scale, folder: Path) -> None:
    run(scale, folder, Record(send, ITEM_SECONDS * scale.patience))


def exit_code(report: Report) -> int:
    """0 if every part is done."""
    return 0 if all(report.part(name).get("state") == "done" for name in PARTS) else 1


if __name__ == "__main__":
    raise SystemExit(main())
