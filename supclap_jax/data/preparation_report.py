"""What became of the clips of a set, for a terminal."""

from collections import Counter
from pathlib import Path

from rich.table import Table

from supclap_jax.console import console

REASONS = 12


def show(out: Path, report: dict) -> None:
    """Prints the report of `prepare`: counts, splits, and the most frequent reasons."""
    table = Table(title=f"{report['read']:,} clips read")
    for name in ("written", "of these silent", "excluded", "skipped"):
        table.add_column(name, justify="right")
    counts = (report[name] for name in ("written", "silent", "excluded", "skipped"))
    table.add_row(*(f"{count:,}" for count in counts))
    console.print(table)
    splits = Table(title="Splits")
    for name in ("split", "clips", "clips with captions"):
        splits.add_column(name, justify="right")
    for split, mine in report["splits"].items():
        languages = ", ".join(f"{name} {clips:,}" for name, clips in mine["languages"].items())
        splits.add_row(split, f"{mine['clips']:,}", languages or "none, labels only")
    console.print(splits)
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
