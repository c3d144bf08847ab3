"""The command `supclap`."""

import argparse
import importlib.util
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags
from rich.progress import Progress

from supclap_jax.config import flatten, nearest_key, validate
from supclap_jax.data.layouts import LAYOUTS
from supclap_jax.errors import CannotWrite, ConfigError, DoesNotFit, UserError, exit_codes
from supclap_jax.evaluate.metric_styles import STYLES

BAD_INPUT = ConfigError.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    parser = _parser()
    options, overrides = parser.parse_known_args(arguments)
    if overrides and options.command not in ("train", "plan"):
        parser.error(f"unknown argument {overrides[0]!r}; see 'supclap {options.command} --help'")
    flags.FLAGS.mark_as_parsed()
    try:
        if getattr(options, "distributed", False):
            from supclap_jax.runs.processes import connect

            connect()
        return options.run(options, overrides)
    except UserError as error:
        return _fail(error, error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 128 + signal.SIGINT)


def train(options: argparse.Namespace, overrides: list[str]) -> int:
    """Trains, then evaluates the best checkpoint and draws figures."""
    config = read_config(options.config, overrides)
    from supclap_jax.evaluate.evaluation import evaluate_run
    from supclap_jax.train.loop import train

    try:
        train(config, options.workdir)
    except OSError as error:
        raise CannotWrite(f"cannot write in {options.workdir}: {error}") from error
    evaluate_run(options.workdir)
    return 0


def evaluate(options: argparse.Namespace, _: list[str]) -> int:
    """Evaluates a checkpoint: retrieval, zero-shot, and against another run."""
    from supclap_jax.evaluate.evaluation import Evaluation, evaluate_run

    evaluation = Evaluation(
        step=options.step,
        data=options.data,
        split=options.split,
        languages=tuple(options.languages.split(",")) if options.languages else (),
        prompts=options.prompts,
        metric_styles=tuple(dict.fromkeys(options.metric_style)),
        relevance=options.relevance,
        against=options.against,
    )
    evaluate_run(options.workdir, evaluation, options.json)
    return 0


def status(options: argparse.Namespace, _: list[str]) -> int:
    """Shows how far a run is, its last checkpoint and its health; reads its folder alone."""
    from supclap_jax.console import console
    from supclap_jax.runs.health import status, table

    result = status(options.workdir)
    console.print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def export_weights(options: argparse.Namespace, _: list[str]) -> int:
    """Writes a checkpoint's encoders as safetensors under published names."""
    from supclap_jax.inference.weights_export import export_weights

    export_weights(options.workdir, options.out, options.step, options.names)
    return 0


def plan(options: argparse.Namespace, overrides: list[str]) -> int:
    """Compiles the training step for a TPU slice that is not there: memory, traffic, time."""
    config = read_config(options.config, overrides)
    import jax

    jax.config.update("jax_platforms", "cpu")
    from supclap_jax.console import console
    from supclap_jax.planning.planner import plan, tables

    with console.status(f"compiling for {options.topology}; minutes for a large slice"):
        result = plan(config, options.topology, options.search)
    parts = f" in microbatches of {config.microbatch_size:,}" if config.microbatch_size else ""
    console.print(
        f"{options.config}, batch {config.batch_size:,}{parts}, on {result['chips']} chips of "
        f"{options.topology}; compiled in {result['compile_seconds']:.0f} s.",
        soft_wrap=True,
    )
    for table in tables(result):
        console.print(table)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    largest = result["largest"]
    if largest:
        sizes = " ".join(f"--config.{key}={size}" for key, size in largest.items() if size)
        console.print(f"The largest that was found to fit: {sizes}", soft_wrap=True)
    if result["memory"] is None:
        advice = "" if largest else "; nor does any smaller batch: divide the states by mesh.fsdp"
        return _fail(
            f"batch_size {config.batch_size} does not fit the memory of {options.topology}{advice}",
            DoesNotFit.exit_code,
        )
    return 0


def synthesize(options: argparse.Namespace, _: list[str]) -> int:
    """Renders soundscapes to audio files."""
    from supclap_jax.data.soundscape import LANGUAGES, Soundscape, write_clotho

    try:
        soundscape = Soundscape(
            seed=options.seed,
            seconds=options.seconds,
            sample_rate=options.sample_rate,
            zipf=options.zipf,
            wrong_captions=options.wrong_captions,
        )
        with Progress() as bar:
            task = bar.add_task("rendering", total=options.clips)
            counts = write_clotho(
                soundscape,
                options.out,
                options.clips,
                file_format=options.format,
                progress=lambda done: bar.update(task, completed=done),
            )
    except ValueError as error:
        return _fail(error, BAD_INPUT)
    clips = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    print(f"{options.out}: {clips} clips, captions in {len(LANGUAGES)} languages")
    return 0


def prepare(options: argparse.Namespace, _: list[str]) -> int:
    """Reads a data set on disk in its published layout and writes ArrayRecord shards."""
    import shlex

    from supclap_jax.data import layouts
    from supclap_jax.data import preparation_report as report
    from supclap_jax.data.prepare import exclusions, prepare

    if options.workers < 1:
        return _fail(f"--workers is {options.workers}; expected at least 1", BAD_INPUT)
    if not 0 <= options.max_bad <= 1:
        return _fail(f"--max-bad is {options.max_bad}; expected a share from 0 to 1", BAD_INPUT)
    told = layouts.Options(
        options.template, tuple(options.blacklist), use_blacklist=not options.no_blacklist
    )
    try:
        beam = None if options.beam is None else shlex.split(options.beam)
    except ValueError as error:
        return _fail(f"--beam={options.beam!r} cannot be read: {error}", BAD_INPUT)
    try:
        shards = layouts.read_layout(options.format, options.source, told)
        with Progress() as bar:
            task = bar.add_task("preparing shards", total=None)
            result = prepare(
                shards,
                options.out,
                workers=options.workers,
                max_bad=options.max_bad,
                excluded=exclusions(options.exclude),
                original=options.original,
                beam=beam,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    except OSError as error:
        return _fail(f"a file cannot be read or written: {error}", BAD_INPUT)
    report.show(options.out, result)
    return 0


def read_config(recipe: str, overrides: Sequence[str]) -> ConfigDict:
    """The config of a recipe, `FILE.py[:argument]`, with `--config.key=value` overrides; checked.

    Raises:
      ConfigError: there is no such recipe, key or value.
    """
    config = _load_recipe(recipe)
    for override in overrides:
        key, equals, _ = override.removeprefix("--config.").partition("=")
        if not override.startswith("--config.") or not equals:
            raise ConfigError(f"cannot read {override!r}; overrides look like --config.seed=1")
        if key not in flatten(config):
            near = nearest_key(key, config)
            raise ConfigError(f"unknown config key {key!r}; the nearest known key is {near!r}")
    arguments = ["supclap", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=arguments)
    try:
        values(arguments)
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(f"cannot read an override: {error}") from error
    validate(config)
    return config


def _load_recipe(recipe: str) -> ConfigDict:
    path, *argument = recipe.split(":", 1)
    spec = importlib.util.spec_from_file_location("recipe", path)
    if spec is None or not Path(path).is_file():
        raise ConfigError(f"there is no recipe {path!r}; expected a Python file as in configs/")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*argument)


def _fail(error: Exception | str, code: int) -> int:
    print(f"supclap: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="supclap",
        description="Contrastive language-audio pretraining with Support Vector Regularization.",
        epilog="Exit codes:\n"
        + "\n".join(f"  {code:8} {meaning}" for code, meaning in exit_codes().items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(run, example: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            run.__name__.replace("_", "-"),
            help=run.__doc__.splitlines()[0].rstrip("."),
            description=run.__doc__,
            epilog=f"example:\n  {example}\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.set_defaults(run=run)
        return command

    def add_distributed(command: argparse.ArgumentParser) -> None:
        command.add_argument(
            "--distributed",
            action="store_true",
            help="one of several processes, which find each other on TPU pods, under SLURM and "
            "Open MPI, or by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID",
        )

    command = add(
        synthesize,
        "supclap synthesize --out=runs/soundscape --clips=5000",
    )
    command.add_argument("--out", type=Path, required=True, help="folder to write")
    command.add_argument(
        "--clips",
        type=int,
        required=True,
        help="70%% development, 10%% validation, 20%% evaluation",
    )
    command.add_argument("--seed", type=int, default=0, help="default: 0")
    command.add_argument("--seconds", type=float, default=4.0, help="2 to 10; default: 4")
    command.add_argument("--sample-rate", type=int, default=16_000, help="Hz; default: 16000")
    command.add_argument("--format", default="wav", help="wav (16 bit) or flac; default: wav")
    command.add_argument(
        "--zipf", type=float, default=0.0, help="skew of event frequencies; default: 0, all alike"
    )
    command.add_argument(
        "--wrong-captions",
        type=float,
        default=0.0,
        help="share of training clips with captions of another scene; default: 0",
    )

    command = add(
        prepare,
        "supclap prepare --format=audiocaps --source=AudioCaps --out=prepared/audiocaps \\\n"
        "      --template='{split}/Y{youtube_id}.wav' --max-bad=0.2 --workers=8",
    )
    command.add_argument(
        "--format", required=True, choices=LAYOUTS, help=", ".join(LAYOUTS), metavar="FORMAT"
    )
    command.add_argument("--source", type=Path, required=True, help="the data set on disk")
    command.add_argument("--out", type=Path, required=True, help="folder to write")
    command.add_argument("--workers", type=int, default=1, help="processes; default: 1")
    command.add_argument(
        "--max-bad", type=float, default=0.01, help="share of clips that may be bad; default: 0.01"
    )
    command.add_argument(
        "--template",
        default="",
        help="a row's audio file, such as {split}/Y{youtube_id}.wav (audiocaps, wavcaps, vggsound)",
    )
    command.add_argument(
        "--blacklist",
        type=Path,
        action="append",
        default=[],
        help="JSON of ids to leave out, beside those in the source (wavcaps); may be repeated",
    )
    command.add_argument(
        "--no-blacklist", action="store_true", help="keep blacklisted clips (wavcaps)"
    )
    command.add_argument(
        "--exclude",
        type=Path,
        action="append",
        default=[],
        help="a prepared set whose recordings and audio to leave out; may be repeated",
    )
    command.add_argument(
        "--original",
        action="store_true",
        help="store audio in its own rate, channels and depth; default: as training reads it, mono "
        "at 16 kHz and 16 bit",
    )
    command.add_argument(
        "--beam",
        help="run on Apache Beam with these pipeline options, such as --runner=FlinkRunner",
    )

    command = add(
        train,
        "supclap train --config=configs/soundscape.py:dynamic --workdir=runs/dynamic \\\n"
        "      --config.data.path=runs/soundscape --config.seed=1",
    )
    command.add_argument("--config", required=True, help="recipe, FILE.py or FILE.py:argument")
    command.add_argument(
        "--workdir", type=Path, required=True, help="folder of the run; continues what is there"
    )
    add_distributed(command)
    command.add_argument(
        "--config.KEY", dest="_", metavar="VALUE", help="override one field of the recipe"
    )

    command = add(
        evaluate,
        "supclap evaluate --workdir=runs/dynamic --json=result.json\n"
        "  supclap evaluate --workdir=runs/dynamic --against=runs/info_nce\n"
        "  supclap evaluate --workdir=runs/dynamic --data=data/esc50 --prompts=prompts.txt\n"
        "  supclap evaluate --workdir=runs/dynamic --data=data/clotho --metric-style=dcase\n"
        "  supclap evaluate --workdir=runs/dynamic --data=data/wavcaps --split=train",
    )
    command.add_argument("--workdir", type=Path, required=True, help="folder of a trained run")
    add_distributed(command)
    command.add_argument("--step", type=int, help="checkpoint; default: the best on validation")
    command.add_argument(
        "--data", type=Path, help="data folder; default: the one that the run was trained on"
    )
    command.add_argument("--split", default="test", help="of the data; default: test")
    command.add_argument(
        "--languages", help="of captions, such as eng_Latn,fra_Latn; default: those of the run"
    )
    command.add_argument(
        "--against", type=Path, help="folder of a run to compare with, clip by clip"
    )
    command.add_argument(
        "--prompts", type=Path, help="zero-shot templates, one with one {} on each line"
    )
    command.add_argument(
        "--metric-style",
        action="append",
        default=[],
        choices=STYLES,
        help="show the metrics as this code base computes them, too; may be repeated",
    )
    command.add_argument(
        "--relevance",
        type=Path,
        help="of dcase: CSV file with the columns query, audio_filenames (several clips a query)",
    )
    command.add_argument(
        "--json", type=Path, help="write the report to this file, a confusion matrix beside it"
    )

    command = add(status, "supclap status --workdir=runs/dynamic")
    command.add_argument("--workdir", type=Path, required=True, help="folder of a run")
    command.add_argument("--json", type=Path, help="write the same to this file")

    command = add(plan, "supclap plan --config=configs/pretrain.py --topology=v5e:16x16")
    command.add_argument("--config", required=True, help="recipe, FILE.py or FILE.py:argument")
    command.add_argument(
        "--topology", required=True, help="TPU generation and shape: v5e:16x16, v4:4x4x8, v6e:8x8"
    )
    command.add_argument(
        "--search", action="store_true", help="double the batch until it does not fit any more"
    )
    command.add_argument("--json", type=Path, help="write the plan to this file")
    command.add_argument(
        "--config.KEY", dest="_", metavar="VALUE", help="override one field of the recipe"
    )

    command = add(
        export_weights,
        "supclap export-weights --workdir=runs/dynamic --out=weights --names=huggingface",
    )
    command.add_argument("--workdir", type=Path, required=True, help="folder of a trained run")
    command.add_argument("--step", type=int, help="checkpoint; default: the best on validation")
    command.add_argument(
        "--out", type=Path, required=True, help="folder, or with ml-clap FILE.safetensors"
    )
    command.add_argument(
        "--names",
        choices=("original", "huggingface", "ml-clap"),
        default="original",
        help="original (fairseq2's for SONAR) or Hugging Face's, in two files; or ml-clap, in one, "
        "with projections and temperature. Default: original",
    )
    return parser
