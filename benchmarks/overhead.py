"""What the training loop costs beside the compiled step, on the recipe of the quick start.

    python benchmarks/overhead.py --quick
    python benchmarks/overhead.py --out=benchmarks/results/overhead.json

Host work: the loop of `supclap train` itself runs over 400 real batches with a step that computes
nothing, so that all its time is drawing (from a full buffer), transfers, metrics and logs. It is
compared with the median time of the real step alone. Checkpoints: how long `save` keeps the loop
waiting, every 100 steps, and how much slower steps are while one is written.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from unittest import mock

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
from absl import flags
from rich.console import Console
from rich.table import Table

from supclap_jax.config import read_config
from supclap_jax.data.batches import training_batches
from supclap_jax.data.opening import load_clips
from supclap_jax.data.soundscape import Soundscape
from supclap_jax.data.soundscape_files import write_clotho
from supclap_jax.data.text import Tokenizer
from supclap_jax.runs.checkpoints import Checkpoints
from supclap_jax.runs.mesh import make_mesh, put_batch
from supclap_jax.runs.run import Run
from supclap_jax.runs.states import init_states
from supclap_jax.runs.tokenizer import make_tokenizer
from supclap_jax.train import loop
from supclap_jax.train.step import make_train_step

RECIPE = str(Path(__file__).parents[1] / "configs" / "soundscape.py")
INTERVAL = 100  # steps between checkpoints
DIRECTIONS = ("text_to_audio", "audio_to_text")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a fourth of the steps")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    options = parser.parse_args()
    flags.FLAGS.mark_as_parsed()
    steps, timed = (100, 10) if options.quick else (400, 40)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clotho(Soundscape(), folder / "data", 400)
        config = read_config(RECIPE, [f"--config.data.path={folder / 'data'}"])
        states, batches, train_step = prepare(config)
        step_seconds, states, metrics = time_steps(train_step, states, batches, timed)
        host_seconds = time_loop(config, folder, metrics, batches, steps)
        draw_seconds = time_draws(config)
        save_seconds, writing_seconds = time_saves(folder, train_step, states, batches, timed)
    step = statistics.median(step_seconds)
    results = {
        "step_seconds": step,
        "loop_seconds": host_seconds,
        "draw_seconds": draw_seconds,
        "host_share": (host_seconds + draw_seconds) / step,
        "save_seconds": statistics.median(save_seconds),
        "save_share": statistics.median(save_seconds) / (INTERVAL * step),
        "save_and_slower_steps_share": (
            statistics.median(save_seconds) + statistics.median(writing_seconds)
        )
        / (INTERVAL * step),
    }
    table = Table(title="soundscape:dynamic, batch 32")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("compiled step, ms", f"{1e3 * step:.1f}")
    table.add_row("rest of the loop a step, ms", f"{1e3 * host_seconds:.2f}")
    table.add_row("draw from a full buffer, ms", f"{1e3 * draw_seconds:.2f}")
    table.add_row("host work of a step", f"{results['host_share']:.2%}")
    table.add_row("checkpoint: loop waits, ms", f"{1e3 * results['save_seconds']:.1f}")
    table.add_row(f"of {INTERVAL} steps", f"{results['save_share']:.2%}")
    table.add_row("with slower steps meanwhile", f"{results['save_and_slower_steps_share']:.2%}")
    Console().print(table)
    if options.out:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


def prepare(config):
    """States, eight batches on the host, and the compiled step of the recipe."""
    mesh = make_mesh(1, config.batch_size)
    stream = draw(config)
    batches = [next(stream) for _ in range(8)]
    return init_states(config, mesh), batches, make_train_step(config, mesh)


def draw(config):
    """The stream of training batches from its beginning."""
    clips = load_clips(config, "train")
    tokenizer = Tokenizer(make_tokenizer(config, clips), config.text.vocab_size)
    return training_batches(clips, tokenizer, config, 0, 0, 1)


def time_steps(train_step, states, batches, count: int):
    mesh = make_mesh(1, len(batches[0]["group_ids"]))
    on_device = [put_batch(batch, mesh) for batch in batches]
    seconds = []
    for number in range(count + 2):
        began = time.perf_counter()
        states, metrics = train_step(states, on_device[number % len(on_device)])
        jax.block_until_ready((states, metrics))
        seconds.append(time.perf_counter() - began)
    return seconds[2:], states, metrics


def time_loop(config, folder: Path, metrics, batches, steps: int) -> float:
    """Seconds a step of the real loop around a step that returns what it was given."""
    config = config.copy_and_resolve_references()
    config.update(total_steps=steps, eval_every=10 * steps, checkpoint_every=10 * steps)
    moments = []

    def make_no_step(config, mesh):
        def no_step(states, batch):
            moments.append(time.perf_counter())
            return states, metrics

        return no_step

    with (
        mock.patch.object(loop, "make_train_step", make_no_step),
        mock.patch.object(loop, "training_batches", lambda *_: itertools.cycle(batches)),
        mock.patch.object(loop, "validate", lambda *_: {key: {"R@1": 0.0} for key in DIRECTIONS}),
    ):
        loop.train(config, folder / "loop")
    assert len(Run(folder / "loop").metrics()) - 1 == steps // config.log_every
    return (moments[-1] - moments[10]) / (len(moments) - 11)


def time_draws(config) -> float:
    """Median seconds to draw one of the batches that the workers hold ready."""
    batches = draw(config)
    next(batches)
    seconds = []
    for _ in range(5):
        time.sleep(3.0)
        for _ in range(config.data.prefetch // 2):
            began = time.perf_counter()
            next(batches)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def time_saves(folder: Path, train_step, states, batches, count: int):
    """Seconds that `save` takes, and by which steps are slower until the checkpoint is written."""
    mesh = make_mesh(1, len(batches[0]["group_ids"]))
    batch = put_batch(batches[0], mesh)
    checkpoints = Checkpoints(folder / "saves", keep_last=2)
    waits, extra = [], []
    for number in range(count // 2):
        began = time.perf_counter()
        checkpoints.save(states, number + 1)
        waits.append(time.perf_counter() - began)
        seconds = []
        for _ in range(12):
            began = time.perf_counter()
            states, metrics = train_step(states, batch)
            jax.block_until_ready((states, metrics))
            seconds.append(time.perf_counter() - began)
        extra.append(sum(seconds[:6]) - sum(seconds[6:]))
    checkpoints.close()
    return waits[1:], extra[1:]


if __name__ == "__main__":
    main()
