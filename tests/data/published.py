"""A few synthesised clips in the exact layout of every published set."""

import csv
import io
import json
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import soundfile
import yaml


def sound(name, seconds=0.5, rate=16_000, channels=1):
    """Decaying noise that is another for each name: float32 `[samples, channels]`."""
    rng = np.random.default_rng(zlib.crc32(str(name).encode()))
    samples = round(seconds * rate)
    envelope = np.exp(-3 * np.arange(samples) / samples)[:, None]
    return (rng.uniform(-0.5, 0.5, (samples, channels)) * envelope).astype(np.float32)


def write_sound(path, subtype=None, rate=16_000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound(path.name, rate=rate, **options), rate, subtype)
    return path


def write_csv(path, rows, encoding="utf-8", end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, lineterminator=end).writerows(rows)


def audiocaps(folder, train=10, held_out=3):
    """Version 1: CRLF; one caption in training, five elsewhere; an id that starts with `-`."""
    header = ("audiocap_id", "youtube_id", "start_time", "caption")
    number = 0
    for split, clips, captions in (
        ("train", train, 1),
        ("val", held_out, 5),
        ("test", held_out, 5),
    ):
        rows = [header]
        for clip in range(clips):
            youtube = f"-{split}{clip:06d}"
            write_sound(folder / split / f"Y{youtube}.wav")
            for text in range(captions):
                number += 1
                rows.append((number, youtube, 30, f"A sound, number {clip} {split} in {text} way"))
        write_csv(folder / f"{split}.csv", rows, end="\r\n")
    return folder


def clotho(folder, clips=3):
    for split in ("development", "validation", "evaluation"):
        rows = [("file_name", *(f"caption_{i}" for i in range(1, 6)))]
        metadata = [("file_name", "keywords", "sound_id", "sound_link", "license")]
        for clip in range(clips):
            name = f"{split} é {clip} (rain, heavy).wav"
            write_sound(folder / split / name, rate=44_100)
            rows.append((name, *(f"Rain of {split} {clip} falls, {i}." for i in range(1, 6))))
            metadata.append((name, "rain;heavy", f"{clips}{clip}{len(split)}", "http://x", "CC"))
        write_csv(folder / f"clotho_captions_{split}.csv", rows)
        write_csv(folder / f"clotho_metadata_{split}.csv", metadata, encoding="iso-8859-1")
    return folder


def wavcaps(folder, clips=6):
    """Three subsets, as a bare list and as `{"data": ...}`; one clip of two is blacklisted."""

    def entry(name, text):
        return {"id": name, "caption": text, "description": "", "duration": 0.5}

    subsets = {
        "AudioSet_SL": [entry(f"Yyt{i:08d}.wav", f"Music {i} plays.") for i in range(clips)],
        "FreeSound": [entry(str(100 + i), f"A bell {i} rings.") for i in range(clips)],
        "SoundBible": [entry(str(100 + i), f"A dog {i} barks.") for i in range(2)],
    }
    for subset, entries in subsets.items():
        lists = folder / "json_files" / subset / f"{subset.lower()}_final.json"
        lists.parent.mkdir(parents=True, exist_ok=True)
        published = {"num_captions_per_audio": 1, "data": entries}
        lists.write_text(json.dumps(entries if subset == "FreeSound" else published))
        for fields in entries:
            name = f"{fields['id'].removesuffix('.wav')}.flac"
            write_sound(folder / subset / name, rate=32_000)
    blacklist = folder / "json_files" / "blacklist" / "blacklist_exclude_test_ac.json"
    blacklist.parent.mkdir()
    blacklist.write_text(json.dumps({"AudioSet": ["Yyt00000001.wav"], "FreeSound": ["100"]}))
    return folder


def esc50(folder, clips=4):
    rows = [("filename", "fold", "target", "category", "esc10", "src_file", "take")]
    for clip in range(clips):
        name = f"{clip % 5 + 1}-{1000 + clip}-A-{clip}.wav"
        category = ("dog", "chirping_birds")[clip % 2]
        rows.append((name, clip % 5 + 1, clip % 2, category, "True", 1000 + clip, "A"))
        write_sound(folder / "audio" / name, rate=44_100)
    write_csv(folder / "meta" / "esc50.csv", rows)
    return folder


def urbansound8k(folder, clips=4):
    """Mixed rates, depths and channel counts, as in the set."""
    kinds = (
        ("PCM_16", 44_100, 2),
        ("PCM_24", 96_000, 1),
        ("PCM_U8", 8_000, 1),
        ("FLOAT", 48_000, 2),
    )
    rows = [("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")]
    for clip in range(clips):
        subtype, rate, channels = kinds[clip % len(kinds)]
        name, fold = f"{500 + clip}-3-0-0.wav", clip + 1
        rows.append((name, 500 + clip, 0.0, 0.5, 1, fold, 3, ("dog_bark", "siren")[clip % 2]))
        write_sound(folder / "audio" / f"fold{fold}" / name, subtype, rate, channels=channels)
    write_csv(folder / "metadata" / "UrbanSound8K.csv", rows)
    return folder


def vggsound(folder, clips=4):
    rows = []
    for clip in range(2 * clips):
        split = ("train", "test")[clip % 2]
        label = ("dog barking", "people eating, noisily")[clip // 2 % 2]
        rows.append((f"-vgg_{clip}", 30 + clip, label, split))
        write_sound(folder / "audio" / f"-vgg_{clip}_{30 + clip:06d}.wav")
    write_csv(folder / "vggsound.csv", rows)
    return folder


def fsd50k(folder, clips=4):
    """Labels with those above them in the ontology; one clip of four is for validation."""
    rows = {"dev": [("fname", "labels", "mids", "split")], "eval": [("fname", "labels", "mids")]}
    for name, table in rows.items():
        for clip in range(clips):
            fname = str(len(name) * 1000 + clip)
            labels = ("Bark,Dog,Animal", "Rain")[clip % 2]
            split = (("val" if clip == 3 else "train"),) if name == "dev" else ()
            table.append((fname, labels, "/m/0", *split))
            write_sound(folder / f"FSD50K.{name}_audio" / f"{fname}.wav", rate=44_100)
        write_csv(folder / "FSD50K.ground_truth" / f"{name}.csv", table)
    return folder


def audioset(folder, clips=3):
    """Three lines of comment, spaces after commas, quoted lists of ids; names with commas."""
    classes = [("index", "mid", "display_name"), (0, "/m/09x0r", "Speech")]
    classes += [(1, "/m/0ytgt", "Child speech, kid speaking"), (2, "/t/dd1", "Rain")]
    write_csv(folder / "class_labels_indices.csv", classes)
    for name in ("balanced_train_segments", "unbalanced_train_segments", "eval_segments"):
        lines = ["# Segments csv created Sun Mar  5 10:54:31 2017", "# num_ytids=3, num_segs=3"]
        lines.append("# YTID, start_seconds, end_seconds, positive_labels")
        for clip in range(clips):
            video = f"--{name[:3]}{clip:06d}"
            lines.append(f'{video}, {30 * clip}.000, {30 * clip + 10}.000, "/m/0ytgt,/t/dd1"')
            write_sound(folder / name / f"{video}.wav")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return folder


def macs(folder, clips=4):
    files = []
    for clip in range(clips):
        name = f"airport-barcelona-{clip // 2}-{clip}-a.wav"
        write_sound(folder / "audio" / name, rate=48_000, channels=2)
        annotations = [
            {"annotator_id": n, "sentence": f"People {clip} talk, {n}", "tags": ["adults talking"]}
            for n in range(3)
        ]
        files.append({"filename": name, "annotations": annotations})
    (folder / "MACS.yaml").write_text(yaml.safe_dump({"files": files}))
    return folder


def parquet(folder, clips=3):
    """As a hub's library writes it: audio bytes beside a name, a row for each caption."""
    for split in ("train", "test"):
        rows = [
            {
                "audio": {"bytes": encoded(f"{split}{clip}"), "path": f"{clip}.flac"},
                "caption": f"Waves {clip} {split} break, {text}.",
                "youtube_id": f"{split}_{clip}",
                "start_time": 30,
            }
            for clip in range(clips)
            for text in range(2)
        ]
        write_parquet(folder / "data" / f"{split}-00000-of-00001.parquet", rows)
    return folder


def write_parquet(path, rows, noted=None, **options):
    table = pyarrow.Table.from_pylist(rows)
    if noted:
        told = {"huggingface": json.dumps({"info": {"features": noted}})}
        table = table.replace_schema_metadata(told)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **{"row_group_size": 2} | options)
    return path


def table(folder, clips=4):
    """Shorter clips than the other sets, with captions in two languages."""
    rows = [("path", "caption", "language", "split", "id", "label")]
    for clip in range(clips):
        path = write_sound(folder / "sounds" / f"{clip} é.ogg", seconds=0.3).relative_to(folder)
        rows.append((path, f"Wind {clip} blows.", "", "", f"clip{clip}", ""))
        rows.append((path, f"Le vent {clip} souffle.", "fra_Latn", "", f"clip{clip}", ""))
    write_csv(folder / "clips.csv", rows)
    return folder


def tar(path, members):
    """An archive of (name, bytes)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def encoded(name, file_format="FLAC", rate=16_000):
    data = io.BytesIO()
    soundfile.write(data, sound(name, rate=rate), rate, format=file_format)
    return data.getvalue()


def webdataset(folder, shards=2, clips=3):
    """FLAC, WAV, OGG and MP3 beside `.json` or `.txt`."""
    formats = (("flac", "FLAC"), ("wav", "WAV"), ("ogg", "OGG"), ("mp3", "MP3"))
    for shard in range(shards):
        members = []
        for clip in range(clips):
            key = f"{shard}{clip:03d}"
            suffix, file_format = formats[(shard * clips + clip) % 4]
            members.append((f"{key}.{suffix}", encoded(key, file_format)))
            if clip % 2:
                members.append((f"{key}.txt", f"Water {key} flows.".encode()))
            else:
                described = {"text": [f"Water {key} flows."], "tag": ["water"]}
                members.append((f"{key}.json", json.dumps(described).encode()))
        tar(folder / f"{shard:05d}.tar", members)
    return folder


LAYOUTS = {
    maker.__name__: maker
    for maker in (
        audiocaps,
        clotho,
        wavcaps,
        macs,
        esc50,
        urbansound8k,
        vggsound,
        fsd50k,
        audioset,
        table,
        parquet,
        webdataset,
    )
}
TEMPLATES = {"audiocaps": "{split}/Y{youtube_id}.wav"}


def make(name, folder: Path):
    return LAYOUTS[name](folder)
