"""README.md of an exported model: what it is, how good, and how to use it."""

import jax

from supclap_jax.inference.loaded_model import LoadedModel

USE = {
    "safetensors": """\
```python
from supclap_jax.inference import load

model = load("PATH OF THIS FOLDER")
audio = model.encode_audio(["dog.wav"])
text = model.encode_text(["a dog barks"], language="{language}")
model.similarity(text, audio)
```
""",
    "stablehlo": """\
```python
import jax

audio = jax.export.deserialize(open("audio.stablehlo", "rb").read())
text = jax.export.deserialize(open("text.stablehlo", "rb").read())
audio.call(waveform, lengths)
text.call(tokens)
```
""",
    "onnx": """\
```python
import onnxruntime

audio = onnxruntime.InferenceSession("audio.onnx")
text = onnxruntime.InferenceSession("text.onnx")
audio.run(None, {{"waveform": waveform, "lengths": lengths}})
text.run(None, {{"tokens": tokens}})
```
""",
}  # fmt: skip
INPUTS = """
`waveform` is float32 [batch, {samples}], mono at 16 kHz in [-1, 1], filled up with zeros;
`lengths`, int32 [batch], says how many samples are a clip's own, at least 2,400. `tokens` are
int32 [batch, {tokens}]: the language's token, those of `tokenizer.model` plus one (3 for an
unknown one), then 2; filled up with 1. The languages' tokens: {languages}. Captions are lower-cased
and lose their punctuation first.
"""


def model_card(
    model: LoadedModel, kind: str, language_tokens: dict[str, int], evaluation: dict | None
) -> str:
    """Markdown with a head in YAML, as model hubs read it.

    Args:
      model: that was exported.
      kind: of the files, a key of `USE`.
      language_tokens: token of each language that it was trained on.
      evaluation: the run's `evaluation.json`, where it is of this step.
    """
    config = model.config
    facts = {
        "language": model.languages[0],
        "samples": f"{round(model.seconds * 16_000)}",
        "tokens": config.text.max_tokens,
        "dim": model.dim,
        "languages": ", ".join(f"{name} {token}" for name, token in language_tokens.items()),
    }
    count = sum(leaf.size for leaf in jax.tree.leaves(model.variables["params"]))
    languages = "".join(f"- {name.split('_')[0]}\n" for name in model.languages)
    lines = [
        "---\nlibrary_name: supclap_jax\npipeline_tag: zero-shot-audio-classification\n"
        f"tags:\n- clap\n- audio-text-retrieval\nlanguage:\n{languages}---\n",
        "# A dual encoder of audio and text\n",
        f"Trained with supclap_jax for {model.step:,} steps of {config.batch_size} pairs by "
        f"{config.loss.base}, radii: {config.loss.svr.radius}. Add here on which data, by whom, "
        "and under which license.\n",
        "| | |\n|---|---|",
        f"| parameters | {count:,} |",
        f"| audio encoder | {config.audio.encoder}, {config.audio.dim} wide, {config.audio.depth} "
        f"layers; hears {model.seconds:g} s at once |",
        f"| text encoder | {config.text.encoder}, {config.text.dim} wide, {config.text.depth} "
        f"layers; reads {config.text.max_tokens} tokens |",
        f"| embedding | {model.dim} numbers, a unit vector |",
        f"| temperature | {model.temperature:.4f} |",
        f"| space | `{model.space}`: vectors of other ids cannot be compared with these |",
        "",
    ]
    if evaluation:
        lines += ["## How good\n", "| R@1, % | |\n|---|---|"]
        for direction, found in evaluation["retrieval"].items():
            value = found["R@1"]
            interval = f"{value['value']:.1f} [{value['low']:.1f}, {value['high']:.1f}]"
            lines.append(f"| {direction.replace('_', ' ')} | {interval} |")
        lines.append(f"\n{evaluation['clips']:,} clips of the {evaluation['made_by']['split']} "
                     "split; 95 % intervals.\n")  # fmt: skip
    lines += ["## Use\n", USE[kind].format(**facts)]
    if kind != "safetensors":
        lines.append(INPUTS.format(**facts).strip() + "\n")
    return "\n".join(lines)
