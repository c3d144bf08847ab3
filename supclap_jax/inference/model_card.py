"""README.md of an exported model: what it is, how good, and how to use it."""

import jax

from supclap_jax.inference.loaded_model import LoadedModel
from supclap_jax.models.tokens import PAD_ID, SONAR_PIECES

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
With jax and flatbuffers installed:

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
SENTENCE = "It's raining, a dog barks."
SPELLING = """Texts are lower-cased first, each sign of punctuation (Unicode's
categories P) becomes a space, and spaces are single ones."""
SONAR_SPELLING = """Texts are lower-cased first, each of ()，。！？：；、,.!?;:|*" becomes a
space, and spaces are single ones."""
INPUTS = """
`waveform` is float32 [batch, {samples}], mono at 16 kHz in [-1, 1], filled up with zeros;
`lengths`, int32 [batch], says how many samples are a clip's own. `tokens` are
int32 [batch, {tokens}]: the language's token ({languages}), then those of `tokenizer.model`
(sentencepiece) plus one, 3 for an unknown one, at most {most} of them; then 2; filled up with 1.
{spelling} So "{sentence}" in {language} is {example}, filled up.
"""


def model_card(
    model: LoadedModel, kind: str, language_tokens: dict[str, int], recall: dict | None
) -> str:
    """Markdown with a head in YAML, as model hubs read it.

    Args:
      model: that was exported.
      kind: of the files, a key of `USE`.
      language_tokens: token of each language that it was trained on.
      recall: R@1 by direction: "value", "low" and "high", in percent. None where it is not known.
    """
    config = model.config
    tokens = model.tokenizer.encode(SENTENCE, model.languages[0], config.text.max_tokens)
    facts = {
        "language": model.languages[0],
        "samples": f"{round(model.seconds * 16_000)}",
        "tokens": config.text.max_tokens,
        "dim": model.dim,
        "most": config.text.max_tokens - 2,
        "spelling": SONAR_SPELLING if config.text.vocab_size == SONAR_PIECES else SPELLING,
        "sentence": SENTENCE,
        "example": ", ".join(str(token) for token in tokens if token != PAD_ID),
        "languages": ", ".join(f"{name} {token}" for name, token in language_tokens.items()),
    }
    count = sum(leaf.size for leaf in jax.tree.leaves(model.variables["params"]))
    codes = dict.fromkeys(name.split("_")[0] for name in model.languages)
    languages = "".join(f"- {code}\n" for code in codes)
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
    if recall:
        lines += ["## How good\n", "| R@1 on the test split, % (95 % interval) | |", "|---|---|"]
        for direction, of in recall.items():
            interval = f"{of['value']:.1f} [{of['low']:.1f}, {of['high']:.1f}]"
            lines.append(f"| {direction.replace('_', ' ')} | {interval} |")
        lines.append("")
    lines += ["## Use\n", USE[kind].format(**facts)]
    if kind != "safetensors":
        lines.append(INPUTS.format(**facts).strip() + "\n")
    return "\n".join(lines)
