"""Print the rows that docs/*.md have for a GPU, out of the JSON file that experiments/gpu.sh wrote.

python tools/gpu_rows.py work/gpu/gpu.json
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

COMMAND = "`bash experiments/gpu.sh`"
AGAINST = {
    "authors": "batches of 8 padded to 256 tokens, all logits",
    "plain": "sorted, batches of 32 padded to their longest, `inference_mode`, all logits",
}
"""The other sides of the encoding bench, in the words of docs/speed.md."""
ERROR, SKIPPED = "error", "skipped"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE.json")
    report = json.loads(parser.parse_args(argv).file.read_text(encoding="utf-8"))
    parts = {name: part["results"] for name, part in report["parts"].items()}
    print("\n".join([measured_on(report), *pages(parts), *failures(report)]))
    return 0


def pages(parts: dict[str, Any]) -> Iterator[str]:
    """A heading for each page, then its tables."""
    for page, blocks in PAGES.items():
        yield f"\n## {page}"
        for part, block in blocks:
            yield from ("", *block(parts[part])) if parts.get(part) else ("", f"- {part}: has not run")


def measured_on(report: dict[str, Any]) -> str:
    """One line: device, versions, date."""
    versions = ", ".join(
        f"{name} {report['versions'][name]}" for name in ("python", "torch", "transformers", "peft")
    )
    toy = "TOY SHAPES, no measurement. " if report["toy"] else ""
    device = report["device"]
    return f"{toy}{device.get('name', device.get(ERROR))}; {versions}; {report['date']} UTC"


def encoding(results: dict[str, Any]) -> Iterator[str]:
    """Rows of the first table of docs/speed.md, then what goes into its list."""
    rows = []
    notes = []
    for shape, found in results.items():
        sides = found.get("sides", {})
        ours = sides.get("ours", {})
        for side, words in AGAINST.items():
            if not (speed(ours) and speed(sides.get(side, {}))):
                continue
            what = f"{found['passages']:,} passages, {shape}'s shape, {found['dtype']}: "
            what += f"{speed(ours):,.1f} a second"
            times = found["times_as_fast"][side]
            rows.append([what, f"{words}: {speed(sides[side]):,.1f}", f"{times:.2f}", COMMAND])
        if "share_of_matrix_peak" in found:
            notes.append(matrix_note(shape, found))
    yield from table(["what", "against", "times as fast", "command"], rows)
    yield from ("", *notes)


def speed(side: dict[str, Any]) -> float:
    """Passages per second; 0 where the side failed."""
    return float(side.get("passages_per_second", 0))


def matrix_note(shape: str, found: dict[str, Any]) -> str:
    """Our share of the speed of one large product, and memory."""
    product, ours = found["matrix product"], found["sides"]["ours"]
    return (
        f"- {shape}: {ours['tokens_per_second']:,.0f} tokens a second. The matrix products alone take "
        f"{found['share_of_matrix_peak']:.0%} of our time at the speed of one large product "
        f"({product['flop_per_second'] / 1e12:,.1f} TFLOP/s). Memory above the model's own: "
        f"{ours['bytes_above_model'] / 2**20:,.0f} MiB."
    )


def head_memory(results: dict[str, Any]) -> Iterator[str]:
    """The head of one forward pass."""
    size = results.get("inference")
    if size is None:
        return
    yield f"B {size['batch']}, L {size['length']}, H {size['hidden']}, V {size['vocabulary']}:"
    rows = []
    for dtype, sides in dictionaries(size):
        both = [sides.get(side, {}) for side in ("naive", "streamed")]
        if not all("seconds" in side for side in both):
            continue
        naive, streamed = both
        rows.append(
            [
                dtype,
                *(f"{mebibytes(side['extra_bytes'])} MiB, {side['seconds'] * 1000:,.1f} ms" for side in both),
                f"{ratio(streamed['extra_bytes'], naive['extra_bytes'])}",
                f"{ratio(streamed['seconds'], naive['seconds'])}",
            ]
        )
    yield from ("", *table(["dtype", "naive", "streamed", "memory, ratio", "time, ratio"], rows), "")
    slices = [
        f"{name} {found['seconds'] * 1000:,.1f} ms"
        for name, found in results.get("slices", {}).items()
        if "seconds" in found
    ]
    yield f"- Slices of the streamed head: {', '.join(slices)}."


def trained_head(results: dict[str, Any]) -> Iterator[str]:
    """The head of one training step, as docs/training.md has it."""
    size = results.get("training")
    if size is None:
        return
    yield (
        f"B {size['batch']}, L {size['length']}, H {size['size']}, V {size['vocabulary']}, "
        f"{size['active']:.0%} of the terms active:"
    )
    rows = [
        [
            f"{dtype}, {head}",
            side,
            f"{mebibytes(found['extra_bytes'])} MiB",
            f"{found['forward_seconds'] * 1000:,.1f} ms",
            f"{found['backward_seconds'] * 1000:,.1f} ms",
        ]
        for dtype, heads in dictionaries(size)
        for head, sides in heads.items()
        for side, found in sides.items()
        if "extra_bytes" in found
    ]
    yield from ("", *table(["head", "", "extra at peak", "forward", "backward"], rows))


def training(results: dict[str, Any]) -> Iterator[str]:
    """The contrastive run."""
    found = results.get("run", {})
    if "steps" not in found:
        yield f"- training: {reason(found)}"
        return
    head = [
        "steps",
        "passages a step",
        "steps a second",
        "tokens a second",
        "peak memory",
        "loss, start",
        "loss, end",
    ]
    row = [
        f"{found['steps']}, LoRA of rank {found['lora_rank']}",
        f"{found['passages_per_step']}",
        f"{found['steps_per_second']:.2f}",
        f"{found['tokens_per_second']:,.0f}",
        f"{found['peak_bytes'] / 1e9:,.1f} GB",
        f"{found['loss_at_start']:.3f}",
        f"{found['loss_at_end']:.3f}",
    ]
    yield from table(head, [row])


def equal_runs(results: dict[str, Any]) -> Iterator[str]:
    """Runs that have to have the same losses."""
    rows = []
    for name, found in results.items():
        if name == "base":
            continue
        if "losses" not in found:
            rows.append([name, reason(found), ""])
            continue
        losses = found["losses"]
        rows.append(
            [name, f"{losses[0]:.4f} to {losses[-1]:.4f}", f"{found.get('largest_difference', 0):.2e}"]
        )
    yield from table(["run", "loss", "largest relative difference"], rows)


def quantized(results: dict[str, Any]) -> Iterator[str]:
    """One table per shape, as docs/efficiency.md has them."""
    columns = {
        "queries a second, one by one": ("queries_per_second", 1),
        "documents a second": ("documents_per_second", 1),
        "model, MB": ("model_bytes", 1e-6),
    }
    for shape, found in results.items():
        methods = found.get("methods", {})
        # The paper compares with the compiled model, so it comes first.
        names = sorted(methods, key=lambda name: not name.endswith("compiled"))
        ran = {name: methods[name] for name in names if "model_bytes" in methods[name]}
        first: dict[str, float] = next(iter(ran.values()), {})
        rows = [
            [
                name,
                *(cell(row[key] * unit, row[key] / first[key]) for key, unit in columns.values()),
            ]
            for name, row in ran.items()
        ]
        yield from (f"{shape}'s shape, random weights:", "", *table(["", *columns], rows), "")
        yield from (f"- {name}: {reason(row)}" for name, row in methods.items() if name not in ran)


def cell(value: float, share: float) -> str:
    """A value and its ratio to the unquantized."""
    return f"{value:,.1f} ({share:.2f})"


def back_off(results: dict[str, Any]) -> Iterator[str]:
    """Rows of an encoding that runs out of memory."""
    rows = [
        [
            f"{name}, {found['dtype']}, {found['tokens']:,} tokens",
            f"{found['budget']:,}",
            f"{found['budget_at_end']:,}",
            f"{found['equal_vectors']:.2%}",
            f"{found['largest_impact_difference']}",
        ]
        for name, found in results.items()
        if "budget" in found
    ]
    head = [
        "memory",
        "budget",
        "budget at the end",
        "vectors equal to those of a small budget",
        "largest impact difference",
    ]
    yield from table(head, rows)


def tests(results: dict[str, Any]) -> Iterator[str]:
    """One line."""
    found = results.get("pytest", {})
    if "passed" not in found:
        yield f"- Tests on the device: {reason(found)}"
        return
    skips = ", ".join(f"{count} ({why})" for why, count in found["skips"].items()) or "none"
    failed = len(found["failures"])
    yield f"- Tests on the device: {found['passed']} passed, {failed} failed, skipped: {skips}."


def failures(report: dict[str, Any]) -> Iterator[str]:
    """Every error of the file, with where it stands."""
    yield "\n## Errors\n"
    found = [
        f"- {' / '.join(keys)}: {text.strip().splitlines()[-1]}"
        for name, part in report["parts"].items()
        for keys, text in errors(part, (name,))
    ]
    yield from found or ["None."]


def errors(values: dict[str, Any], keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
    """All error texts below."""
    for key, value in values.items():
        if key == ERROR:
            yield keys, str(value)
        elif isinstance(value, dict):
            yield from errors(value, (*keys, key))


def dictionaries(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries that are tables themselves."""
    return ((key, value) for key, value in values.items() if isinstance(value, dict))


def reason(found: dict[str, Any]) -> str:
    """Why there is no number."""
    text = str(found.get(SKIPPED) or found.get(ERROR) or "not measured")
    return text.strip().splitlines()[-1]


def mebibytes(size: float) -> str:
    """Bytes in MiB."""
    return f"{size / 2**20:,.0f}"


def ratio(one: float, other: float) -> str:
    """How much one is of the other."""
    return f"{one / other:.3f}" if other else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, numbers to the right of the first column."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


PAGES: dict[str, list[tuple[str, Callable[[dict[str, Any]], Iterator[str]]]]] = {
    "docs/speed.md": [("encode", encoding), ("head", head_memory), ("back-off", back_off), ("tests", tests)],
    "docs/training.md": [("training", training), ("equal-runs", equal_runs), ("head", trained_head)],
    "docs/efficiency.md": [("quantization", quantized)],
}


if __name__ == "__main__":
    sys.exit(main())
