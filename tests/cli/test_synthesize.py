"""`supclap synthesize`: the files it promises, and a folder of another set."""

import csv

import soundfile

from supclap_jax.cli.main import main


def test_synthesize_then_read_back(tmp_path, capsys):
    out = tmp_path / "data"
    command = ["synthesize", f"--out={out}", "--clips=10", "--seconds=2", "--format=flac"]
    assert main(command) == 0
    assert "7 development, 1 validation, 2 evaluation clips" in capsys.readouterr().out
    with (out / "clotho_captions_evaluation.csv").open(encoding="utf-8", newline="") as file:
        names = [row["file_name"] for row in csv.DictReader(file)]
    assert [soundfile.info(out / "evaluation" / name).subtype for name in names] == ["PCM_16"] * 2
    assert main([*command, "--seed=1"]) == 2
    assert "seed" in capsys.readouterr().err
