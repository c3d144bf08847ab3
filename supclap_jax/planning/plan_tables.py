"""Plans as tables."""

from collections.abc import Iterator

from rich.table import Table


def tables(result: dict) -> Iterator[Table]:
    """A plan; none where the step does not fit."""
    if result["memory"] is None:
        return
    memory = _table("memory of a device", "GiB")
    for name, size in result["memory"].items():
        memory.add_row(name, f"{size / 2**30:.2f}", end_section=name in ("code", "total"))
    yield memory

    sent = _table("collectives of a device", "a step", "GB sent", "of them exposed")
    for where, kinds in (("", result["collectives"]), ("slices: ", result["between_slices"])):
        for kind, total in kinds.items():
            gigabytes = (f"{total[name] / 1e9:.2f}" for name in ("bytes", "exposed"))
            sent.add_row(where + kind, f"{total['count']:,}", *gigabytes)
        sent.add_section()
    yield sent

    work = _table("part of a step", "TFLOP, all devices", "%")
    total = sum(result["flops"].values())
    for name, flops in result["flops"].items():
        work.add_row(name, f"{flops / 1e12:,.1f}", f"{100 * flops / total:.1f}")
    work.add_section()
    work.add_row("all", f"{total / 1e12:,.1f}", "100")
    yield work

    least, recipe = result["floor"], result["recipe"]
    time_table = _table("at best", "")
    for part in ("matrix", "hbm", "interconnect", "network"):
        if part not in least:
            continue
        bound = ", the floor of a step" if part == least["bound_by"] else ""
        time_table.add_row(f"{part}{bound}", f"{least[part]:.3f} s")
    time_table.add_row("floor, and what is exposed", f"{least['with_exposed']:.3f} s")
    time_table.add_section()
    time_table.add_row("MFU", f"{100 * result['mfu_bound']:.0f} %")
    time_table.add_row("clips/s", f"{result['clips_per_second']:,.0f}")
    time_table.add_row(f"{recipe['steps']:,} steps", f"{recipe['hours']:,.1f} hours")
    time_table.add_row("", f"{recipe['chip_hours']:,.0f} chip-hours")
    yield time_table

    host = result["host"]
    needs = _table(f"a host of {host['hosts']:,} must", "")
    needs.add_row("read from storage, at most", f"{host['stored_bytes_per_second'] / 1e9:.3f} GB/s")
    needs.add_row("decode", f"{host['clips_per_second']:,.0f} clips/s")
    needs.add_row("so have cores for it", f"{host['decoding_cores']:,.1f}")
    needs.add_row("send to its devices", f"{host['device_bytes_per_second'] / 1e9:.3f} GB/s")
    yield needs


def tuned_table(result: dict) -> Table:
    """The recipe as it is, and what was compiled and fits, numbered, the fastest first."""
    table = _table("", "floor", "exposed", "MFU", "memory", "gathered", "sent")
    entries = {"recipe": result["recipe"]}
    entries |= {str(place): entry for place, entry in enumerate(result["best"], start=1)}
    for name, entry in entries.items():
        if entry["memory"] is None:
            table.add_row(name, "does not fit", *[""] * 5)
            continue
        kinds = entry["collectives"]
        table.add_row(
            name,
            f"{entry['floor']['seconds']:.3f} s",
            f"{entry['floor']['with_exposed']:.3f} s",
            f"{100 * entry['mfu_bound']:.0f} %",
            f"{entry['memory']['total'] / 2**30:.2f} GiB",
            f"{kinds.get('all-gather', {'bytes': 0})['bytes'] / 1e9:.1f} GB",
            f"{sum(kind['bytes'] for kind in kinds.values()) / 1e9:.1f} GB",
        )
    return table


def overrides(entry: dict) -> list[str]:
    """Of a tuned entry, as a shell takes them."""
    return [
        f'--config.{key}="{tuple(value)}"'
        if isinstance(value, list | tuple)
        else f"--config.{key}={value}"
        for key, value in entry["settings"].items()
    ]


def _table(*columns: str) -> Table:
    table = Table()
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left")
    return table
