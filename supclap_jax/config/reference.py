"""The reference of all fields: docs/config.md, and what `supclap config` prints."""

import itertools

from rich.table import Column, Table

from supclap_jax.config.fields import FIELDS, Field
from supclap_jax.config.values import unknown_key

SECTIONS = {
    "": "The run",
    "loss": "The loss",
    "loss.svr": "Support Vector Regularization",
    "temperature": "Temperature and bias of the logits",
    "audio": "The audio encoder; the defaults are CED-Base",
    "text": "The text encoder; the defaults are SONAR's",
    "optimizer": "AdamW with linear warm-up and a schedule",
    "optimizer.scale": "Factors of the learning rate, for groups of parameters",
    "radius_optimizer": "The same for the radius model, when it has parameters; it has no schedule "
    "of its own",
    "branch": "A run that starts from a checkpoint of another",
    "data": "The data",
    "evaluate": "Evaluation",
    "profile": "A trace by jax.profiler in the run's folder, for XProf",
    "mesh": "Devices",
}
INTRODUCTION = """\
# Config fields

Made from `supclap_jax/config/fields.py`, where each field is declared; `supclap config KEY` prints
the same. A recipe starts from these defaults and changes some, an override is
`--config.KEY=VALUE`. A field whose "only with" does not hold must keep its default. A run that is
resumed may change what has a ✓ in the last column, and nothing else.
"""
HEAD = """\
| key | default | what it is | expected | only with | ✓ |
|---|---|---|---|---|---|
"""


def markdown() -> str:
    """The page docs/config.md."""
    page = INTRODUCTION
    for section, title in SECTIONS.items():
        rows = [_row(key, field) for key, field in FIELDS.items() if _section(key) == section]
        page += f"\n## {title}\n\n{HEAD}{''.join(rows)}"
    return page


def table(key: str = "") -> Table:
    """For a terminal: the field `key`, or those of a section such as "loss.svr"; by default all.

    Raises:
      ConfigError: there is no such key.
    """
    keys = [known for known in FIELDS if not key or f"{known}.".startswith(f"{key}.")]
    if not keys:
        raise unknown_key(key)
    rows = Table(Column("key", style="bold", no_wrap=True), "default", "what it is")
    for _, of_section in itertools.groupby(keys, _section):
        for known in of_section:
            rows.add_row(known, repr(FIELDS[known].default), _description(FIELDS[known]))
        rows.add_section()
    return rows


def _section(key: str) -> str:
    return key.rpartition(".")[0]


def _row(key: str, field: Field) -> str:
    used = field.used.sentence if field.used else ""
    mark = "✓" if field.resumable else ""
    cells = (f"`{key}`", f"`{field.default!r}`", field.comment, field.check.sentence, used, mark)
    return f"| {' | '.join(cells)} |\n"


def _description(field: Field) -> str:
    lines = [field.comment, f"Expected: {field.check.sentence}."]
    if field.used:
        lines.append(f"Only with {field.used.sentence}.")
    if field.resumable:
        lines.append("A resumed run may change it.")
    return "\n".join(lines)
