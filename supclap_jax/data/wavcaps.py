"""WavCaps, without the clips that its blacklists keep out of other sets' tests."""

from pathlib import Path, PurePosixPath

from supclap_jax.data.list_files import read_json
from supclap_jax.data.rows import (
    AUDIO_SUFFIXES,
    ENGLISH,
    Options,
    Row,
    Shard,
    captions_of,
    from_template,
    in_shards,
    not_empty,
    without_clutter,
)
from supclap_jax.errors import DataError


def wavcaps(folder: Path, options: Options) -> list[Shard]:
    """`.../SUBSET/*.json`: a list of clips, or `{"data": [...]}`; without blacklisted clips.

    The template knows `subset`, `id` and `stem`, the id without a suffix; by default
    `{subset}/{stem}.flac`. Blacklists are files whose name begins with "blacklist", in `folder`:
    `{SUBSET: [id, ...]}`, with "AudioSet" for AudioSet_SL, or a list for all subsets.
    """
    template = options.template or "{subset}/{stem}.flac"
    found = (path for path in folder.rglob("*.json") if not _is_ours(path))
    lists, ignored = without_clutter(found)
    own = [path for path in lists if path.name.startswith("blacklist")]
    lists = [path for path in lists if path not in own]
    blacklists = [*own, *options.blacklists]
    blacklisted = _read_blacklists(folder, blacklists) if options.use_blacklist else {}
    rows = ignored
    for path in lists:
        content = read_json(path)
        clips = content.get("data") if isinstance(content, dict) else content
        if not isinstance(clips, list):
            raise DataError(f'{path} is no list of clips; expected [...] or {{"data": [...]}}')
        subset = path.parent.name if path.parent != folder else path.stem
        site = {"AudioSet_SL": "youtube", "FreeSound": "freesound"}.get(subset)
        for number, fields in enumerate(clips, 1):
            if not isinstance(fields, dict) or not isinstance(fields.get("id"), str | int):
                name = path.relative_to(folder)
                rows.append(Row(id=f"{name}:{number}", problem="the entry has no id"))
                continue
            stem = _stem(str(fields["id"]))
            names = {"subset": subset, "id": str(fields["id"]), "stem": stem}
            file, problem = from_template(folder, template, names)
            captions, empty = captions_of(((ENGLISH, fields.get("caption")),))
            clip = stem.removeprefix("Y") if site == "youtube" else stem
            keys = ((subset, stem), (subset.removesuffix("_SL"), stem), ("", stem))
            listed = next((blacklisted[key] for key in keys if key in blacklisted), "")
            rows.append(
                Row(
                    id=f"{subset}/{stem}",
                    audio=file,
                    captions=captions,
                    source=f"{site}:{clip}" if site else "",
                    problem=problem or empty,
                    excluded=f"blacklisted in {listed}" if listed else "",
                )
            )
    return not_empty(in_shards("train", rows), folder, "JSON lists of clips")


def _is_ours(path: Path) -> bool:
    """Whether a file is of a prepared set, which may lie in the folder of its source."""
    return any(
        (parent / "dataset_info.json").is_file() or parent.suffix == ".incomplete"
        for parent in path.parents
    )


def _read_blacklists(folder: Path, paths: list[Path]) -> dict[tuple[str, str], str]:
    """(subset or "" for all, id without suffix) -> the name of the file that lists it."""
    if not paths:
        raise DataError(
            f"{folder} holds no blacklist*.json; put WavCaps' folder 'blacklist' there, name one "
            "with --blacklist=FILE, or keep all clips with --no-blacklist"
        )
    blacklisted = {}
    for path in paths:
        content = read_json(path)
        for subset, ids in (content if isinstance(content, dict) else {"": content}).items():
            if not isinstance(ids, list):
                raise DataError(f"{path} is no blacklist; expected lists of ids by subset")
            blacklisted |= {(subset, _stem(str(name))): path.name for name in ids}
    return blacklisted


def _stem(name: str) -> str:
    """An id without the suffix of an audio file."""
    path = PurePosixPath(name)
    return name.removesuffix(path.suffix) if path.suffix in AUDIO_SUFFIXES else name
