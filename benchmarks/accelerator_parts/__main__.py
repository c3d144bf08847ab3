"""One part in a process of its own: `python -m accelerator_parts PART FILE SECONDS [quick]`."""

import sys
from importlib import import_module
from pathlib import Path

from accelerator_parts.rows import Rows

part, file, seconds, *quick = sys.argv[1:]
if part == "torch":
    from accelerator_parts.torch_peers import cases, machine
else:
    cases = import_module(f"accelerator_parts.{part}").cases
    from accelerator_parts.timing import machine
found = machine()
if found["platform"] == "cpu" and not quick:
    sys.exit(f"{part}: no accelerator is found; --tiny runs on the CPU")
rows = Rows(Path(file), found)
rows.measure(cases(bool(quick), rows), float(seconds))
sys.exit(1 if rows.failed else 0)
