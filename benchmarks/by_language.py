"""What runs of a sweep find in each of their languages: the mean, the worst, and how they differ.

    python benchmarks/by_language.py runs/study_languages --out=languages.csv

Of each run's `evaluation.json`: R@1 in percent, the mean over languages and that of the language
which has the lowest, in both directions, and the mean rank variance (`evaluate/languages.py`); and
what each has more than the run of the same seed without SVR.
"""

import argparse
import json
from pathlib import Path

from paired import write

DIRECTIONS = ("text_to_audio", "audio_to_text")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sweep", type=Path, help="its folder")
    parser.add_argument("--out", type=Path, required=True, help="CSV file")
    options = parser.parse_args()
    done = sorted((options.sweep / "runs").glob("*/evaluation.json"))
    rows = [measure(path.parent) for path in done]
    metrics = [key for key in rows[0] if key.split()[0] in ("mean", "worst", "variance")]
    write(rows, options.out, metrics, ["seed"])


def measure(workdir: Path) -> dict:
    config, found = (
        json.loads((workdir / name).read_text()) for name in ("config.json", "evaluation.json")
    )
    row = {"name": workdir.name, "radius": config["loss"]["svr"]["radius"], "seed": config["seed"]}
    for direction in DIRECTIONS:
        recalls = {
            language: table[direction]["R@1"]["value"]
            for language, table in found["per_language"].items()
        }
        worst = min(recalls, key=recalls.get)
        row[f"mean {direction}"] = sum(recalls.values()) / len(recalls)
        row[f"worst {direction}"] = recalls[worst]
        row[f"variance {direction}"] = found["languages"]["mean_rank_variance"][direction]
        row[f"which {direction}"] = worst
    return row


if __name__ == "__main__":
    main()
