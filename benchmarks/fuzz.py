"""Random tiny configs: each is refused in one line, or trains a step. None may fail in between.

    python benchmarks/fuzz.py --examples=100 --out=benchmarks/results/fuzz.json

Hypothesis chooses which fields differ from tests/tiny.py, and how: at their bounds, where these are
small enough to train with, and in between.
"""

import argparse
import json
import os
import shutil
import tempfile
import traceback
from collections import Counter
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Optimisations take most of the time.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supclap_jax.config import FIELDS, VARIANTS, read_config
from supclap_jax.config.checks import Choice, Flag, Number
from supclap_jax.data.soundscape import Soundscape
from supclap_jax.data.soundscape_files import write_clotho
from supclap_jax.errors import ConfigError, Diverged
from supclap_jax.train.loop import train

ROOT = Path(__file__).resolve().parents[1]
# Fields that name files or sizes, or say how long to train: what they may be here.
VALUES = {
    "batch_size": (1, 2, 8),
    "microbatch_size": (None, 1, 2, 4, 8),
    "loss.base": ("info_nce", "siglip", "decoupled"),
    "loss.block_size": (None, "auto", 1, 3, 8),
    "loss.svr.hidden": (1, 8),
    "audio.dim": (16, 24, 48),
    "audio.depth": (1, 2),
    "audio.heads": (1, 2, 3),
    "audio.target_length": (10, 1012),
    "audio.offloaded": ((), ("qkv", "attended")),
    "audio.saved": ((), ("qkv",), ("sum", "hidden")),
    "audio.seconds": (0.15, 0.2, 1.0, 1.7),
    "audio.time_masks": (0, 2),
    "audio.freq_masks": (0, 1, 70),
    "text.dim": (16, 24, 48),
    "text.depth": (1, 2),
    "text.heads": (1, 2, 3),
    "text.ffn_dim": (1, 32),
    "text.offloaded": ((), ("sum",)),
    "text.saved": ((), ("attended",)),
    "text.vocab_size": (300, 301),
    "text.max_tokens": (3, 24, 25),
    "projection_dim": (1, 2, 16),
    "keep_steps": ((), (1,)),
    "data.languages": (("eng_Latn",), ("fra_Latn", "eng_Latn"), ("jpn_Jpan",)),
    "data.buckets": ((), (0.5,)),
    "data.workers": (0,),
    "evaluate.batch_size": (1, 5, 8),
    "mesh.data": (1, -1),
    "mesh.fsdp": (1, -1),
    "mesh.slices": (None, 1),
}
LEFT = (
    *("data.path", "data.mixture", "data.evaluation", "branch.run", "branch.step", "pretrained"),
    *("audio.encoder", "audio.pretrained", "text.encoder", "text.pretrained", "text.tokenizer"),
    *("loss.svr.similarity", "loss.svr.reference"),
    *("compilation_cache", "total_steps", "attention", "profile.start", "profile.steps"),
)


def values(key: str) -> st.SearchStrategy:
    """What a field is set to."""
    check = FIELDS[key].check
    if key in VALUES:
        return st.sampled_from(VALUES[key])
    if isinstance(check, Choice):
        return st.sampled_from(check.options)
    if isinstance(check, Flag):
        return st.booleans()
    assert isinstance(check, Number), key
    ends = [end for end in (check.least, check.most) if end is not None]
    if check.type is int:
        return st.sampled_from([*ends, *(n for n in (1, 2, 5) if check.passes(n))])
    between = [x for x in (1e-30, 1e-6, 0.3, 0.999, 1.0, 7.0) if check.passes(x)]
    return st.sampled_from([*ends, *between])


@st.composite
def command_lines(draw) -> tuple[str, dict]:
    """A variant, and fields that are otherwise."""
    keys = sorted(set(FIELDS) - set(LEFT))
    changed = draw(st.lists(st.sampled_from(keys), min_size=3, max_size=8, unique=True))
    return draw(st.sampled_from(sorted(VARIANTS))), {key: draw(values(key)) for key in changed}


def arguments(variant: str, fields: dict, data: Path) -> list[str]:
    """Of `supclap train`, but for the folder."""
    lines = [f"--config.{key}={value}" for key, value in fields.items()]
    fixed = [f"--config.data.path={data}", "--config.total_steps=1"]
    return [f"--config={ROOT}/tests/tiny.py:{variant}", *lines, *fixed]


def make_data(folder: Path) -> Path:
    """Clips in all languages."""
    write_clotho(Soundscape(seconds=2.0), folder, 20, workers=1)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    data, seen, faults = make_data(folder / "data"), Counter(), []

    @settings(
        max_examples=options.examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(command_lines())
    def attempt(line):
        workdir = folder / "run"
        shutil.rmtree(workdir, ignore_errors=True)
        recipe, *overrides = arguments(*line, data)
        try:
            train(read_config(recipe.removeprefix("--config="), overrides), workdir)
            end = "trained"
        except (ConfigError, Diverged) as error:
            end = type(error).__name__
        except Exception:  # whatever is not a documented end is what is looked for
            end = "fault"
            last = traceback.format_exc().splitlines()[-1]
            faults.append({"command": [recipe, *overrides], "error": last})
        seen[end] += 1

    attempt()
    shutil.rmtree(folder)
    result = {"examples": sum(seen.values()), "ends": dict(seen), "faults": faults}
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
