"""Training: from a config and a folder to a trained, evaluated model."""

import math
import resource
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
from rich.progress import TextColumn

from supclap_jax import config as configs
from supclap_jax.console import console, progress_bar
from supclap_jax.data.batches import training_batches
from supclap_jax.data.clips import Clips
from supclap_jax.data.opening import load_clips, load_training
from supclap_jax.errors import DataError, Diverged, Interrupted
from supclap_jax.evaluate.report import validate
from supclap_jax.inference.embedder import Embedder
from supclap_jax.runs import run as workdirs
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.history import first_start, session
from supclap_jax.runs.initial_weights import check_weights
from supclap_jax.runs.mesh import batch_sharding, make_mesh, put_batch
from supclap_jax.runs.metrics import MetricsWriter, print_line, read_metrics
from supclap_jax.runs.processes import ending_with_the_others, is_first, wait_for_all
from supclap_jax.runs.states import abstract_states, init_states, make_model, variables_of
from supclap_jax.train.meter import Meter
from supclap_jax.train.profiler import Trace
from supclap_jax.train.step import make_train_step


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains until `config.total_steps`, from the newest checkpoint in `workdir` if there is one.

    Raises:
      ConfigError, DataError: what was given cannot be trained on; nothing has been compiled.
      Diverged: `config.max_bad_steps` steps in a row were not finite.
      CannotWrite: a checkpoint cannot be written.
      OSError: metrics cannot be written.
      Interrupted: SIGTERM or SIGINT came; a checkpoint has been written.
    """
    configs.validate(config)
    if config.compilation_cache:
        jax.config.update("jax_compilation_cache_dir", config.compilation_cache)
    mesh = make_mesh(config.mesh.data, config.batch_size, config.mesh.fsdp)
    train_step = make_train_step(config, mesh)
    # The evaluation clips are not used here, but their errors should show now, not after training.
    clips_of_split = {
        "development": load_training(config),
        "validation": load_clips(config, "validation"),
        "evaluation": load_clips(config, "test"),
    }
    clips, validation = clips_of_split["development"], clips_of_split["validation"]
    headline = config.data.languages[0]
    if not any(validation.captions[headline]):
        raise DataError(
            f"the validation clips have labels but no captions in {headline}; training is "
            "validated by retrieval: choose another data.evaluation or data.path"
        )
    if len(clips) < config.batch_size:
        raise DataError(
            f"batch_size is {config.batch_size}, but there are only {len(clips)} training clips; "
            "lower it or add clips"
        )
    if not (workdir / "config.json").is_file():
        if config.text.tokenizer:
            workdirs.read_tokenizer(config)
        check_weights(config, abstract_states(config, mesh)[0])
    if is_first():
        workdirs.claim(config, workdir)
        workdirs.claim_data(clips_of_split, workdir)
        workdirs.load_tokenizer(config, workdir, clips)
    wait_for_all("the folder is claimed")
    tokenizer = workdirs.load_tokenizer(config, workdir)

    checkpoints = Checkpoints(workdir, config.keep_last, repair=True)
    start, states = checkpoints.restore_newest(abstract_states(config, mesh))
    if states is None:
        states = init_states(config, mesh)
    else:
        console.print(f"Continuing after step {start} of {config.total_steps}.")
    _print_summary(config, states, clips, mesh)
    if start >= config.total_steps:
        checkpoints.close()
        return

    embedder = Embedder(
        make_model(config, batch_sharding(mesh)), tokenizer, config, batch_sharding(mesh)
    )
    batches = training_batches(
        clips, tokenizer, config, start, jax.process_index(), jax.process_count()
    )
    recording = session(
        workdir,
        silent=not is_first(),
        step=start,
        processes=jax.process_count(),
        devices=mesh.devices.size,
        platform=jax.devices()[0].platform,
    )
    useful_seconds = max(
        (line.get("useful_seconds", 0.0) for line in read_metrics(workdir, start)), default=0.0
    )
    writer = MetricsWriter(workdir, start, silent=not is_first())
    trace = Trace(config, workdir)
    bar = progress_bar(TextColumn("{task.fields[status]}"))
    began = time.perf_counter()
    try:
        with recording, bar, stop_signals() as stop, ending_with_the_others():
            meter = Meter(config.batch_size, start, useful_seconds, first_start(workdir))
            task = bar.add_task("training", total=config.total_steps, completed=start, status="")
            in_flight = None
            for step in range(start + 1, config.total_steps + 1):
                # 1. Draw the batch; its transfer starts.
                with meter.waiting_for_data(in_flight):
                    batch = put_batch(next(batches), mesh)
                # 2. Dispatch the step, which returns before it has run and transfers nothing.
                trace.before(step)
                with jax.transfer_guard("disallow"):
                    *states, metrics = train_step(*states, batch)
                trace.after(step, metrics)
                # 3. While it runs, read and log the metrics of the step before.
                if in_flight is not None:
                    _log(in_flight, meter, writer, bar, task, config)
                in_flight = step, metrics
                # 4. Evaluate and checkpoint, the only places where the device waits for the host.
                evaluates = step % config.eval_every == 0 or step == config.total_steps
                stopped_by = stop(step)
                if evaluates or stopped_by or step % config.checkpoint_every == 0:
                    _log(in_flight, meter, writer, bar, task, config)
                    in_flight = None
                    recall = None
                    if evaluates:
                        variables = variables_of(states[0], config)
                        recall = _validate(embedder, variables, validation, step, writer)
                    checkpoints.save(tuple(states), step, recall)
                    meter.restart()
                if stopped_by:
                    raise Interrupted(
                        stopped_by,
                        f"stopped after step {step}; the same command continues from there",
                    )
    finally:
        trace.close()
        checkpoints.close()
        writer.close()
    minutes, seconds = divmod(round(time.perf_counter() - began), 60)
    console.print(
        f"{config.total_steps - start} steps in {minutes} min {seconds} s, compilation, evaluation "
        f"and checkpoints included; goodput {meter.goodput():.0%} since the run was first started; "
        f"peak memory {peak_memory() / 2**30:.1f} GiB.",
        soft_wrap=True,
    )


def peak_memory() -> int:
    """Most bytes in use so far, on the fullest device of this process; on a CPU, of the process."""
    statistics = [device.memory_stats() for device in jax.local_devices()]
    if all(statistics):
        return max(device["peak_bytes_in_use"] for device in statistics)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def stop_signals():
    """Yields `stop(step)`: the signal to stop for after this step, the same for all processes.

    A process of its own catches SIGTERM and SIGINT; a second one kills as usual. Of several, JAX
    catches the SIGTERM of any one and names the next step that all can stop at.
    """
    if jax.process_count() > 1:
        yield lambda step: multihost_utils.reached_preemption_sync_point(step) and signal.SIGTERM
        return
    received = []
    previous = {}

    def receive(number, frame):
        received.append(number)
        signal.signal(number, previous[number])

    for number in (signal.SIGTERM, signal.SIGINT):
        previous[number] = signal.signal(number, receive)
    try:
        yield lambda step: next(iter(received), None)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _log(in_flight, meter: Meter, writer: MetricsWriter, bar, task, config: ConfigDict) -> None:
    """Waits for a step's metrics; shows and writes them.

    Raises:
      Diverged: too many steps in a row were skipped.
    """
    step, metrics = in_flight
    metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
    meter.step_finished()
    if step % config.log_every == 0 or step == config.total_steps:
        metrics |= meter.read(step)
        writer.write(step, metrics)
        print_line(step, config.total_steps, metrics)
        speed = metrics.get("steps_per_second", math.nan)
        bar.update(task, status=f"loss {metrics['loss']:.3f}  {speed:.1f} steps/s")
    bar.update(task, completed=step)
    if metrics["skipped_in_a_row"] >= config.max_bad_steps:
        raise Diverged(
            f"{config.max_bad_steps} steps in a row, up to step {step}, had a loss or gradient "
            "that was not finite and changed nothing; the last checkpoint is good. Lower "
            "optimizer.learning_rate, or look at the data"
        )


def _validate(
    embedder: Embedder, variables: dict, clips: Clips, step: int, writer: MetricsWriter
) -> float:
    """Writes retrieval on the validation clips; returns the mean R@1 of both directions."""
    table = validate(embedder, variables, clips)
    writer.write(
        step,
        {
            f"validation/{direction}/{name}": value
            for direction, metrics in table.items()
            for name, value in metrics.items()
        },
    )
    text_to_audio, audio_to_text = (metrics["R@1"] for metrics in table.values())
    console.print(
        f"step {step}: validation R@1 {text_to_audio:.1f} % text → audio, "
        f"{audio_to_text:.1f} % audio → text ({len(clips)} clips)"
    )
    return (text_to_audio + audio_to_text) / 2


def _print_summary(config: ConfigDict, states, clips: Clips, mesh) -> None:
    counts = [sum(leaf.size for leaf in jax.tree.leaves(state.params)) for state in states]
    devices = mesh.devices.size
    console.print(
        f"{counts[0]:,} parameters, {counts[1]:,} in the radius model; {len(clips):,} training "
        f"clips; batch {config.batch_size} on {devices} {jax.devices()[0].platform} "
        f"device{'s' if devices > 1 else ''}.",
        soft_wrap=True,
    )
