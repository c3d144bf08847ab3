"""Part 5: the page of all figures, for people."""

import json
from pathlib import Path

from accelerator_parts.rows import shown

TITLES = {
    "right": "Are the numbers right?",
    "losses": "Losses, value and gradients",
    "encoders": "Encoders and whole steps, bfloat16",
    "torch": "PyTorch on the same device",
}
NOTES = {
    "right": "The worst number of each row, in units of what is allowed; 1 is the bound.",
    "losses": "Medians of at least five runs. The share is of the rate that a large product of the "
    "same dtype reached in the same run. Products counted: four for each similarity matrix in "
    "tiles, three dense. For comparison, a published Triton kernel, SigLIP forward and backward at "
    "65,536 on a Hopper card: 48.8 ms and 1.4 GB (eager PyTorch 102 ms and 33 GB).",
    "encoders": "CED-Base on 10 s of log-mel, 24 SONAR layers on 64 tokens with a mask, and the "
    "step of `configs/audiocaps.py`, InfoNCE and DynamicSVR in turns. The share is of the rate of "
    "a large product, by our own count of FLOPs, recomputation not counted.",
    "torch": "Encoders under autocast to bfloat16, which keeps the residual stream in float32 "
    "where ours is bfloat16; losses dense, as open_clip's, their logits in the dtype of the inputs "
    "where ours are float32.",
}
MEMORY = (
    "`planned_mib` is what the compiler plans, `peak_mib` the device's own count where a case "
    "raised it. The first two runs of everything are not counted."
)


def write_page(folder: Path) -> None:
    """`folder/README.md`, of the parts that are there."""
    parts = {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in TITLES
        if (folder / f"{name}.json").exists()
    }
    lines = [
        "# Measured on an accelerator",
        "",
        "`python benchmarks/accelerator.py`",
        "",
        MEMORY,
        "",
    ]
    for name, part in parts.items():
        machine = ", ".join(f"{key} {value}" for key, value in part["machine"].items())
        state = "" if part["complete"] else " **Not complete: run it again to go on.**"
        lines += [f"## {TITLES[name]}", "", f"{machine}. {NOTES[name]}{state}", ""]
        lines += [*_table(part["rows"]), ""]
    if ratios := _against_torch(parts):
        lines += ["## PyTorch's time over ours", "", "The best form of either side.", ""]
        lines += [*_table(ratios), ""]
    (folder / "README.md").write_text("\n".join(lines))


def _table(rows: list[dict]) -> list[str]:
    """A Markdown table of rows that may lack columns."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns)]
    lines += [[shown(row[key]) if key in row else "" for key in columns] for row in rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _against_torch(parts: dict) -> list[dict]:
    """Ratios of the shortest times with the same work, where both sides have one."""
    if "torch" not in parts:
        return []
    theirs = parts["torch"]["rows"]
    ours = [
        row
        for name in ("losses", "encoders")
        if name in parts and parts[name]["machine"]["device"] == parts["torch"]["machine"]["device"]
        for row in parts[name]["rows"]
    ]
    keys = dict.fromkeys((r["what"], r["batch"], r.get("dtype")) for r in theirs)
    ratios = []
    for what, batch, dtype in keys:
        key = {"what": what, "batch": batch} | ({"dtype": dtype} if dtype else {})
        times = [
            min(
                (row["ms"] for row in rows if key.items() <= row.items() and "ms" in row), default=0
            )
            for rows in (theirs, ours)
        ]
        if all(times):
            ratios.append(
                {**key, "PyTorch ms": times[0], "ours ms": times[1], "ratio": times[0] / times[1]}
            )
    return ratios
