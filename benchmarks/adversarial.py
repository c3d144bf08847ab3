"""Hundreds of bad command lines: none may end in a traceback, a hang or an undocumented code.

    python benchmarks/adversarial.py --out=benchmarks/results/adversarial.json

Each is a row of `command_lines`: to try more, add values there. They run in one process, on a run
of two steps that is made first; those that damage a run get a copy of their own.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from rich.console import Console
from rich.table import Table

from supclap_jax.cli.main import main as supclap

ROOT = Path(__file__).resolve().parents[1]
TINY = f"{ROOT}/tests/tiny.py:info_nce"
SECONDS = 30  # that a command may take before it counts as a hang
DOCUMENTED = {0, 2, 3, 4, 5, 6}

NUMBERS = ("x", "", "nan", "inf", "-1", "1e400", "99999999999999999999", "0x10", "1,2")
CONFIG = {
    "batch_size": ("0", "-8", "9", "8.5", "x", "1e9", "99999999999"),
    "total_steps": ("0", "-1", "x", "nan", "1e3"),
    "optimizer.learning_rate": ("0", "-1", "nan", "inf", "x", "1e9"),
    "optimizer.schedule": ("linear", "", "wsd"),
    "temperature.initial": ("0", "-1", "nan", "1e-39", "inf"),
    "loss.base": ("mse", "a:b", "os:getcwd", ":", "no.such:thing", "tests.tiny:PATH"),
    "loss.svr.radius": ("big", "3"),
    "loss.svr.alpha": ("1", "nan", "-1"),
    "loss.block_size": ("0", "x", "-3"),
    "loss.contraction": ("nan", "x", "1e6"),
    "audio.dim": ("0", "33", "x", "99999999"),
    "audio.heads": ("0", "7"),
    "audio.seconds": ("0", "0.01", "nan", "1e9"),
    "audio.encoder": ("nothing", "os:path"),
    "text.max_tokens": ("0", "2", "x"),
    "text.vocab_size": ("5", "0", "x"),
    "text.tokenizer": ("{missing}", "{folder}", "{binary}", "{empty}"),
    "pretrained": ("{missing}", "{binary}"),
    "data.path": ("{missing}", "{empty}", "{folder}", ""),
    "data.languages": ("()", "('xxx',)", "'eng_Latn'", "('eng_Latn','fra_Latn','zzz_Zzzz')"),
    "data.workers": ("-1", "100000", "x"),
    "data.buckets": ("(9.0,)", "(0.5,)", "x", "(0.5,0.2)"),
    "data.mixture": ("{'a':1}", "{'a':-1}", "x"),
    "evaluate.resamples": ("0", "1e9", "1000000000"),
    "evaluate.long_audio": ("all",),
    "mesh.data": ("0", "99", "x"),
    "mesh.fsdp": ("0", "3", "-2"),
    "branch.run": ("{missing}", "{run}"),
    "microbatch_size": ("3", "0", "x"),
    "compilation_cache": ("{binary}/x", "{null}"),
    "no.such.key": ("1",),
    "loss": ("1",),
}
RECIPES = {
    "syntax": "def get_config(:\n",
    "exception": "def get_config():\n    raise KeyError('x')\n",
    "import": "import no_such_module\n",
    "nothing": "x = 1\n",
    "wrong_return": "def get_config():\n    return 3\n",
    "exit": "import sys\n\n\ndef get_config():\n    sys.exit(0)\n",
    "unknown_key": (
        "from supclap_jax.config import default\n\n\ndef get_config():\n"
        "    config = default()\n    with config.unlocked():\n        config.nothing = 1\n"
        "    return config\n"
    ),
    "argument": "def get_config(a, b):\n    return a\n",
    "sweep": "def get_sweep():\n    yield 3\n",
}
DAMAGES = {"empty": b"", "list": b"[]", "cut": b'{"a": ', "binary": bytes(range(256)), "gone": None}
PARTS = ("config.json", "data.json", "tokenizer.model", "metrics.jsonl", "history.jsonl")


class Line(NamedTuple):
    """A command line; `{name}` stands for one of the materials, `{out}` for a new folder.

    Attributes:
      arguments: of `supclap`.
      part: file of a copy of the run, `{copy}`, that is damaged first, and how.
    """

    arguments: tuple[str, ...]
    part: tuple[str, str] | None = None


def command_lines() -> Iterator[Line]:
    """All of them."""
    train = ("train", f"--config={TINY}", "--workdir={out}", "--config.data.path={data}")
    for key, values in CONFIG.items():
        yield from (Line((*train, f"--config.{key}={value}")) for value in values)
    for name in RECIPES:
        for command in (("train", "--workdir={out}"), ("plan", "--topology=v5e:2x4")):
            yield Line((*command, f"--config={{{name}}}"))
        yield Line(("sweep", f"{{{name}}}", "--out={out}"))
    for name in ("s3://bucket/run", "gs://", "gs://bucket", "gs://bucket/../run", "http://x/run"):
        yield Line(("train", f"--config={TINY}", f"--workdir={name}"))
        yield Line(("status", f"--workdir={name}"))
        yield Line(("prepare", "--format=clotho", f"--source={name}", "--out={out}"))
        yield Line(("embed", f"--model={name}", "--source={data}", "--out={out}"))
        yield Line(("train", f"--config={TINY}", "--workdir={out}", f"--config.data.path={name}"))
    files = ("{missing}", "{empty}", "{binary}", "{folder}", "{null}")
    for name in files:
        yield Line(("train", f"--config={name}", "--workdir={out}"))
        yield Line(("status", f"--workdir={name}"))
        yield Line(("export-weights", f"--workdir={name}", "--out={out}"))
        yield Line(("compare", name, "--by=seed"))
        yield Line(("embed", f"--model={name}", "--source={data}", "--out={out}"))
        yield Line(("embed", "--model={run}", f"--source={name}", "--out={out}"))
        yield Line(("search", f"--index={name}", "rain"))
        yield Line(("demo", f"--index={name}"))
        yield Line(("export", f"--model={name}", "--out={out}"))
        yield Line(("classify", "--model={run}", f"--labels={name}", "{missing}"))
        yield Line(("fit", f"--points={name}", "--x=compute", "--y=loss"))
        yield Line(("sweep", name, "--out={out}"))
        yield Line(("prepare", "--format=webdataset", f"--source={name}", "--out={out}"))
        yield Line(("prepare", "--format=parquet", f"--source={name}", "--out={out}"))
        for option in ("data", "against", "prompts", "classes"):
            yield Line(("evaluate", "--workdir={run}", f"--{option}={name}"))
        relevance = ("--metric-style=dcase", f"--relevance={name}")
        yield Line(("evaluate", "--workdir={run}", *relevance))
        yield Line(("evaluate", f"--workdir={name}"))
    clotho = ("prepare", "--format=clotho", "--source={data}")
    for command, options in {
        ("evaluate", "--workdir={run}"): {
            "step": NUMBERS,
            "split": ("", "nothing", "../x", "train\n"),
            "languages": ("", ",", "xxx", "eng", "eng_Latn,xx"),
            "metric-style": ("x",),
            "long-audio": ("x",),
            "json": ("{folder}", "{missing}/x.json", "{null}/x.json"),
            "unknown": ("1",),
        },
        ("synthesize", "--out={out}"): {"clips": NUMBERS},
        ("synthesize", "--out={out}", "--clips=10"): {
            "seconds": NUMBERS,
            "sample-rate": ("0", "-1", "x", "7"),
            "format": ("mp3", ""),
            "zipf": ("-1", "nan", "x"),
            "wrong-captions": ("2", "-1", "nan"),
            "held-out": ("0", "10", "-1", "x"),
            "seed": ("-1", "x", "99999999999999999999"),
        },
        ("prepare", "--source={data}", "--out={out}"): {
            "format": ("", "nothing", "audiocaps", "esc50", "macs", "fsd50k", "audioset", "table"),
        },
        (*clotho, "--out={out}"): {
            "workers": ("0", "-1", "x"),
            "max-bad": ("2", "-1", "nan", "x"),
            "template": ("{{x}}", "{{", "{{x.__class__}}"),
            "blacklist": ("{missing}",),
            "exclude": ("{missing}", "{folder}", "{data}"),
            "channels": ("all",),
            "beam": ("'", "--runner=Nothing"),
        },
        clotho: {"out": ("{data}", "{empty}", "{null}/x")},
        ("plan", f"--config={TINY}"): {
            "slices": ("0", "-1", "x"),
            "topology": ("", "x", "v5e", "v5e:0x0", "v5e:2x", "v9:2x2", "v5e:3x5x7", "v5e:-1x4"),
        },
        ("fit", "--points={points}", "--x=x", "--y=y"): {
            "law": ("x",),
            "where": ("x", "x >", "x > y", "nothing == 1"),
            "hold-out": ("x", "x >> 1"),
            "frontier": ("0", "x"),
            "resamples": ("0", "-1", "x"),
            "figure": ("{folder}", "{missing}/x.png"),
            "json": ("{folder}", "{missing}/x.json"),
            "x": ("nothing", "x,y,z", ""),
        },
        ("export-weights", "--workdir={run}", "--out={out}"): {
            "step": NUMBERS,
            "names": ("x", "ml-clap"),
        },
        ("export", "--model={run}", "--out={out}"): {"step": NUMBERS, "format": ("x", "pickle")},
        ("classify", "--model={run}", "--labels={points}", "{missing}"): {
            "over-time": ("{folder}", "{missing}/x.png", "x.pdf"),
        },
        ("status", "--workdir={run}"): {"json": ("{folder}", "{missing}/x.json", "")},
        ("sweep", f"{ROOT}/configs/sweeps/variants.py", "--out={out}", "--dry-run"): {
            "jobs": ("0", "x"),
            "index": ("5", "x"),
            "only": ("nothing",),
        },
    }.items():
        for option, values in options.items():
            yield from (Line((*command, f"--{option}={value}")) for value in values)
    for name in ("{empty}", "{binary}", "{null}"):
        yield Line((*train[:2], f"--workdir={name}/x", train[3]))
    for command in ("", "nothing", "train", "evaluate", "prepare", "plan", "fit", "--nothing"):
        yield Line((command,))
    uses = {
        "evaluate": ("--workdir={copy}",),
        "status": ("--workdir={copy}",),
        "export-weights": ("--workdir={copy}", "--out={out}"),
        "train": ("--workdir={copy}", f"--config={TINY}", "--config.data.path={data}", *SHORT),
    }
    for part, damage, command in itertools.product(PARTS, DAMAGES, uses):
        yield Line((command, *uses[command]), (part, damage))


SHORT = ("--config.total_steps=2", "--config.eval_every=2", "--config.evaluate.resamples=10")


def make_materials(folder: Path) -> dict[str, Path]:
    """What the command lines name."""
    names = ("missing", "empty", "binary", "folder", "data", "run")
    found = {name: folder / name for name in names}
    found["empty"].write_bytes(b"")
    found["binary"].write_bytes(bytes(range(256)) * 20)
    found["folder"].mkdir()
    found["null"] = Path("/dev/null")
    found["points"] = folder / "points.csv"
    found["points"].write_text("x,y\n1,2\n2,1.5\n4,1.2\n8,1.1\n")
    for name, code in RECIPES.items():
        found[name] = folder / f"{name}.py"
        found[name].write_text(code)
    quiet(["synthesize", f"--out={found['data']}", "--clips=40"])
    train = ["train", f"--config={TINY}", f"--workdir={found['run']}", *SHORT]
    code, text = quiet([*train, f"--config.data.path={found['data']}"])
    if code:
        raise SystemExit(f"the run that all is tried on could not be made: {text}")
    return found


def quiet(arguments: list[str]) -> tuple[int, str]:
    """Exit code of a command, and what it wrote to standard error; a traceback has code 1."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        try:
            code = supclap(arguments)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 2
        except Exception:  # what a user would see as a traceback
            code = 1
            traceback.print_exc(file=errors)
    return code, errors.getvalue()


def attempt(line: Line, materials: dict[str, Path], folder: Path) -> dict:
    """What became of a command line; "fault" is "" where all is as documented."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    places = materials | {"out": folder / "out", "copy": folder / "copy"}
    if line.part:
        shutil.copytree(materials["run"], places["copy"])
        name, damage = line.part
        (places["copy"] / name).unlink()
        if DAMAGES[damage] is not None:
            (places["copy"] / name).write_bytes(DAMAGES[damage])
    arguments = [_filled(text, places) for text in line.arguments]
    before = _listing(materials)

    def hang(*_):
        raise TimeoutError(f"nothing after {SECONDS} s")

    previous = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        code, errors = quiet(arguments)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    told = [text for text in errors.splitlines() if text.startswith("supclap")]
    fault = ""
    if "Traceback" in errors:
        fault = errors.splitlines()[-1]
    elif code not in DOCUMENTED:
        fault = f"code {code}"
    elif code and len(told) != 1:
        fault = f"{len(told)} lines of error"
    elif _listing(materials) != before:
        fault = "something was written outside"
    shown = " ".join(_filled(text, dict.fromkeys(places, "")) for text in line.arguments[:1])
    return {"command": shown, "arguments": line.arguments[1:], "damage": line.part, "code": code,
            "said": told[0][:300] if told else "", "fault": fault}  # fmt: skip


def _filled(text: str, places: dict) -> str:
    for name, path in places.items():
        text = text.replace(f"{{{name}}}", str(path))
    return text


def _listing(materials: dict[str, Path]) -> list[tuple[str, int]]:
    """Files of the data, and of what lies beside it; a run may note that it was looked at."""
    roots = [path for name, path in materials.items() if name not in ("run", "null")]
    files = (file for root in roots for file in ([root] if root.is_file() else root.rglob("*")))
    return sorted((str(file), file.stat().st_size) for file in files)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--every", type=int, default=1, help="only every so many; default: 1")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "materials").mkdir()
        materials = make_materials(folder / "materials")
        found = []
        for line in itertools.islice(command_lines(), 0, None, options.every):
            found.append(attempt(line, materials, folder / "try"))
            if found[-1]["fault"]:
                print(found[-1], flush=True)
    codes = Counter(row["code"] for row in found)
    faults = [row for row in found if row["fault"]]
    table = Table(title=f"{len(found)} bad command lines, {len(faults)} with a fault")
    table.add_column("code", justify="right")
    table.add_column("times", justify="right")
    for code, times in sorted(codes.items()):
        table.add_row(str(code), str(times))
    Console().print(table)
    if options.out:
        result = {"commands": len(found), "codes": {str(k): v for k, v in sorted(codes.items())}}
        result |= {"faults": faults}
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
