"""Training: from a config and a folder to a trained model."""

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from supclap_jax.config import flatten
from supclap_jax.config.conditions import OFFLINE
from supclap_jax.console import console, working
from supclap_jax.data.batches import training_batches
from supclap_jax.data.clips import Clips
from supclap_jax.data.opening import load_clips, load_training
from supclap_jax.data.prepared import Mixture
from supclap_jax.data.reference_embeddings import check_reference
from supclap_jax.data.text import Tokenizer
from supclap_jax.data.text_counts import count_captions, told
from supclap_jax.errors import ConfigError, DataError, Disconnected, Diverged, Interrupted
from supclap_jax.evaluate.scoring import validate
from supclap_jax.files import path_of
from supclap_jax.inference.embedder import Embedder
from supclap_jax.models.dual_encoder import make_model
from supclap_jax.models.registry import check_config
from supclap_jax.runs.branch import check_branch
from supclap_jax.runs.bucket import mirrored, pull, push
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.history import session
from supclap_jax.runs.initial_weights import check_weights
from supclap_jax.runs.lock import locked
from supclap_jax.runs.mesh import batch_sharding, mesh_of, put_batch
from supclap_jax.runs.processes import (
    check_same,
    ending_with_the_others,
    failing_together,
    is_first,
    stop_signals,
)
from supclap_jax.runs.provenance import provenance
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import States, abstract_states, init_states, variables_of
from supclap_jax.runs.tokenizer import read_tokenizer
from supclap_jax.train.meter import peak_memory
from supclap_jax.train.profiler import Trace
from supclap_jax.train.progress import Progress
from supclap_jax.train.step import Step, make_train_step

OF_A_HOST = ("data.path", "compilation_cache")  # each may have its own
CLIPS_COUNTED = 2_000  # of prepared sets, where each is a read of its audio too


def train(config: ConfigDict, workdir: Path) -> None:
    """Trains until `config.total_steps`, from the newest checkpoint in `workdir` if there is one.

    Without one, it starts from the checkpoint of another run that `config.branch` names, or anew.

    Raises:
      ConfigError, DataError: what was given cannot be trained on; nothing has been compiled.
      RunError: there are checkpoints, and none can be restored; or none to branch from.
      Diverged: `config.max_bad_steps` steps in a row were not finite.
      CannotWrite: a checkpoint cannot be written.
      OSError: metrics cannot be written.
      Interrupted: SIGTERM or SIGINT came; a checkpoint has been written.
    """
    if config.compilation_cache:
        _use_cache(config.compilation_cache)
    run = Run(workdir)
    with failing_together():
        check_config(config)
        mesh = mesh_of(config)
        train_step = make_train_step(config, mesh)
        clips_of_split = _open(run, config, mesh)
        run.check_claim(config, clips_of_split)
    _check_same(config, clips_of_split)
    with ExitStack() as held:
        with failing_together():
            if is_first():
                held.enter_context(locked(workdir))
                with working("preparing the folder and its tokenizer"):
                    run.claim(config, clips_of_split)
                    push(workdir)
                held.enter_context(mirrored(workdir))
        with failing_together():
            if not is_first():
                pull(workdir, trains=True)
        _train(run, config, mesh, train_step, clips_of_split)


def _use_cache(folder: str) -> None:
    try:
        if "://" not in folder:  # a bucket, which JAX knows
            Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"compilation_cache {folder} cannot be made a folder ({error.strerror}); choose another"
        ) from error
    jax.config.update("jax_compilation_cache_dir", folder)


def _train(
    run: Run, config: ConfigDict, mesh: Mesh, train_step: Step, clips_of_split: dict
) -> None:
    """Trains in a folder that is this run's."""
    clips, validation = clips_of_split["train"], clips_of_split["validation"]
    checkpoints = run.checkpoints(repair=True)
    start, states = _restore(checkpoints, config, mesh)
    _print_summary(config, states, clips, mesh)
    if start == 0 and is_first():
        _print_counts(clips, run.tokenizer, config.text.max_tokens)
    if start >= config.total_steps:
        checkpoints.close()
        return

    tokenizer, sharding = run.tokenizer, batch_sharding(mesh)
    embedder = Embedder(make_model(config, sharding), tokenizer, config, sharding)
    batches = training_batches(
        clips, tokenizer, config, start, jax.process_index(), jax.process_count()
    )
    began = time.perf_counter()
    with (
        closing(batches),
        closing(Progress(run, config, start)) as progress,
        closing(checkpoints),
        closing(Trace(config, run.workdir)) as trace,
        _session(run.workdir, config, start, mesh),
        progress.bar,
        stop_signals() as stop,
        ending_with_the_others(),
    ):
        for step in range(start + 1, config.total_steps + 1):
            # 1. Draw the batch; its transfer starts.
            saving = partial(_save_alone, progress, checkpoints, states, step - 1)
            with progress.waiting_for_data(), _lost_worker_told(step - 1, saving):
                batch = put_batch(next(batches), mesh)
            # 2. Dispatch the step, which returns before it has run and transfers nothing; the first
            # call compiles it.
            trace.before(step)
            with jax.transfer_guard("disallow"), progress.compiling(step):
                states, metrics = train_step(states, batch)
            del batch  # its memory, on CPUs the workers' own, is free when the step is done
            trace.after(step, metrics)
            # 3. While it runs, read and log the metrics of the step before.
            progress.dispatched(step, metrics)
            # 4. Evaluate and checkpoint, the only places where the device waits for the host.
            evaluates = step % config.eval_every == 0 or step == config.total_steps
            stopped_by = stop(step)
            is_kept = step % config.checkpoint_every == 0 or step in config.keep_steps
            if evaluates or stopped_by or is_kept:
                progress.finish()
                recall = None
                if evaluates:
                    progress.validating()
                    table = validate(embedder, variables_of(states.dual, config), validation)
                    recall = progress.validated(step, table, len(validation))
                checkpoints.save(states, step, recall)
                progress.meter.restart()
            if stopped_by:
                raise Interrupted(
                    stopped_by, f"stopped after step {step}; the same command continues from there"
                )
    if int(states.dual.skipped) == config.total_steps:
        raise Diverged(
            f"none of the {config.total_steps} steps was finite, so all were skipped; lower "
            "optimizer.learning_rate, or look at the data"
        )
    minutes, seconds = divmod(round(time.perf_counter() - began), 60)
    console.print(
        f"{config.total_steps - start} steps in {minutes} min {seconds} s, compilation, evaluation "
        f"and checkpoints included; goodput {progress.meter.goodput():.0%} since the run was first "
        f"started; peak memory {peak_memory() / 2**30:.1f} GiB.",
        soft_wrap=True,
    )


def _open(run: Run, config: ConfigDict, mesh: Mesh) -> dict[str, Clips | Mixture]:
    """Opens the data of all splits; raises whatever speaks against a run with them."""
    # The evaluation clips are not used here, but their errors should show now, not after training.
    clips_of_split = {
        "train": load_training(config),
        "validation": load_clips(config, "validation"),
        "test": load_clips(config, "test"),
    }
    clips, validation = clips_of_split["train"], clips_of_split["validation"]
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
    if OFFLINE.holds(config):
        check_reference(config.loss.svr.reference, clips, config.data.languages)
    if config.branch.run and not run.exists:
        check_branch(config, clips_of_split)
    elif not run.exists:
        if config.text.tokenizer:
            read_tokenizer(config)
        check_weights(config, abstract_states(config, mesh).dual)
    return clips_of_split


def _check_same(config: ConfigDict, clips_of_split: dict[str, Clips | Mixture]) -> None:
    """Raises DataError where the processes of a run have other settings or data."""
    if jax.process_count() == 1:
        return
    settings = {key: value for key, value in flatten(config).items() if key not in OF_A_HOST}
    facts = {"the settings": hashlib.sha256(repr(settings).encode()).hexdigest()}
    for split, clips in clips_of_split.items():
        facts[f"the {split} clips"] = f"{clips.fingerprint()} {clips.audio_fingerprint()}"
    check_same(facts)


def _restore(checkpoints: Checkpoints, config: ConfigDict, mesh: Mesh) -> tuple[int, States]:
    """The step to continue after and its states; 0 and new ones if there is no checkpoint.

    A branch begins with a checkpoint of its trunk, and keeps it: then it needs the trunk no more.
    """
    with working("reading the newest checkpoint"):
        start, states = checkpoints.restore_newest(abstract_states(config, mesh))
    if states is not None:
        console.print(f"Continuing after step {start} of {config.total_steps}.")
    elif config.branch.run:
        start, states = Run(path_of(config.branch.run)).restore(config.branch.step, mesh)
        checkpoints.save(states, start)
        console.print(f"Branching from {config.branch.run} after step {start}.", soft_wrap=True)
    else:
        with working("making the model"):
            states = init_states(config, mesh)
    return start, states


def _save_alone(progress: Progress, checkpoints: Checkpoints, states: States, step: int) -> None:
    """Metrics and a checkpoint after `step`, where no other process has to take part."""
    progress.finish()
    if jax.process_count() == 1 and step not in checkpoints.steps():
        checkpoints.save(states, step)


@contextmanager
def _lost_worker_told(step: int, save: Callable[[], None]):
    """Where a data worker is gone, such as for want of memory, what was trained is saved."""
    try:
        yield
    except RuntimeError as error:
        if "worker" not in str(error).lower():
            raise
        save()
        raise Disconnected(
            f"a data worker is gone after step {step} ({str(error).splitlines()[0]}), perhaps for "
            "want of memory; the same command continues, with fewer data.workers if need be"
        ) from error


def _print_counts(clips: Clips | Mixture, tokenizer: Tokenizer, max_tokens: int) -> None:
    """Says what becomes of the training captions; of many clips, of some, evenly spaced."""
    stride = 1 if isinstance(clips, Clips) else -(-len(clips) // CLIPS_COUNTED)
    looked_at = range(0, len(clips), stride)
    texts = (clips[index].texts for index in looked_at)
    counts = count_captions(texts, tokenizer, max_tokens)
    lines = told(counts, max_tokens)
    if lines and len(looked_at) < len(clips):
        console.print(f"In {len(looked_at):,} of the {len(clips):,} training clips:")
    for line in lines:
        console.print(line, soft_wrap=True)


def _session(workdir: Path, config: ConfigDict, start: int, mesh: Mesh):
    return session(
        workdir,
        silent=not is_first(),
        step=start,
        processes=jax.process_count(),
        devices=mesh.devices.size,
        platform=jax.devices()[0].platform,
        **provenance(config),
    )


def _print_summary(config: ConfigDict, states: States, clips: Clips | Mixture, mesh: Mesh) -> None:
    dual, radius = (
        sum(leaf.size for leaf in jax.tree.leaves(state.params))
        for state in (states.dual, states.radius)
    )
    devices = mesh.devices.size
    console.print(
        f"{dual:,} parameters, {radius:,} in the radius model; {len(clips):,} training "
        f"clips; batch {config.batch_size} on {devices} {jax.devices()[0].platform} "
        f"device{'s' if devices > 1 else ''}.",
        soft_wrap=True,
    )
