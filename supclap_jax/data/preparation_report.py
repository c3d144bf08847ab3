"""What became of the clips of a set, for a terminal."""

from collections import Counter
from pathlib import Path

from rich.table import Table

from supclap_jax.console import console

REASONS = 12
SILENCES = {
    "channels cancel": "their channels cancel in the mean; see --channels",
    "silent channel": "the channel that was taken is; see --channels",
    "above 8 kHz": "all that they hold is above 8 kHz",
    "below 16 bits": "their samples are too small for 16 bits; see --original",
}


def show(out: Path, report: dict) -> None:
    """Prints the report of `prepare`: counts, splits, and the most frequent reasons."""
    table = Table(title=f"{report['read']:,} clips read")
    for name in ("written", "of these silent", "excluded", "skipped"):
        table.add_column(name, justify="right")
    silent = report["silent"]
    counts = (report["written"], sum(silent.values()), report["excluded"], report["skipped"])
    table.add_row(*(f"{count:,}" for count in counts))
    console.print(table)
    for kind, clips in silent.items():
        if kind in SILENCES:
            console.print(f"{clips:,} clips are silent, since {SILENCES[kind]}.", soft_wrap=True)
    if report["ignored"]:
        console.print(
            f"{report['ignored']:,} files that systems leave behind (._*, __MACOSX, .DS_Store, "
            "Thumbs.db) are ignored.",
            soft_wrap=True,
        )
    splits = Table(title="Splits")
    for name in ("split", "clips", "clips with captions"):
        splits.add_column(name, justify="right")
    for split, mine in report["splits"].items():
        languages = ", ".join(f"{name} {clips:,}" for name, clips in mine["languages"].items())
        splits.add_row(split, f"{mine['clips']:,}", languages or "none, labels only")
    console.print(splits)
    for split, mine in report["splits"].items():
        if repeated := mine.get("repeated"):
            console.print(f"{repeated:,} clips of {split} repeat the audio of another of them.")
    reasons = Counter(entry["reason"] for entry in report["problems"])
    if reasons:
        left_out = Table(title="Left out")
        left_out.add_column("clips", justify="right")
        left_out.add_column("reason")
        for reason, count in reasons.most_common(REASONS):
            left_out.add_row(f"{count:,}", reason)
        console.print(left_out)
    console.print(
        f"Written: {out}; every clip left out is in {out / 'report.json'}", soft_wrap=True
    )
