"""The TFDS builder of captioned audio: any layout's shards, their files, metadata, and Beam."""

import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core import naming

from supclap_jax.data.flac import Form
from supclap_jax.data.rows import Shard
from supclap_jax.data.shards import FEATURES, ShardExamples, write_shard
from supclap_jax.errors import DataError

NOTES, EXCLUDED = "notes", "excluded.json"


class CaptionedAudio(tfds.core.ShardBasedBuilder):
    """TFDS builder of any layout; `data_dir` is the folder of the set itself.

    Args:
      shards: of a layout, by split.
      data_dir: to write; what is there already is kept.
      form: how audio is stored.
    """

    VERSION = tfds.core.Version("1.1.0")
    name = "captioned_audio"
    code_path = None  # no checksum files beside this module

    def __init__(self, shards: dict[str, list[Shard]], data_dir: Path, form: Form):
        self.form = form
        self.examples = {
            split: [
                ShardExamples(
                    shard,
                    data_dir / NOTES / f"{split}-{number:05d}.json",
                    data_dir / EXCLUDED,
                    form,
                )
                for number, shard in enumerate(these)
            ]
            for split, these in shards.items()
        }
        super().__init__(data_dir=os.fspath(data_dir), file_format="array_record")

    def jobs(self) -> list[tuple[ShardExamples, Path]]:
        """Each shard's examples and file."""
        return [
            (these, Path(path))
            for split, examples in self.examples.items()
            for these, path in zip(
                examples, self.template(split).sharded_filepaths(len(examples)), strict=True
            )
        ]

    def missing(self) -> list[tuple[ShardExamples, Path]]:
        """The jobs that are not done."""
        return [job for job in self.jobs() if not (job[1].is_file() and job[0].note.is_file())]

    def template(self, split: str) -> naming.ShardedFileTemplate:
        """Names of the files of a split."""
        return naming.ShardedFileTemplate(
            data_dir=self.data_path,
            dataset_name=self.name,
            split=split,
            filetype_suffix="array_record",
        )

    def notes(self) -> Iterator[tuple[str, dict]]:
        """Split and note of each shard, when all are done."""
        for split, examples in self.examples.items():
            for these in examples:
                yield split, json.loads(these.note.read_text())

    def _build_data_dir(self, given_data_dir: str) -> tuple[str, str]:
        return given_data_dir, given_data_dir

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(FEATURES))

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[ShardExamples]]:
        return self.examples

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        """Writes the missing shards under Beam, as one collection, however many they are."""
        import apache_beam as beam

        runner, options = download_config.beam_runner, download_config.beam_options
        write = functools.partial(write_shard, self.info.features)
        with beam.Pipeline(runner=runner, options=options) as pipeline:
            waiting = pipeline | beam.Create(self.missing())
            _ = waiting | beam.Reshuffle() | beam.Map(write)


def write_with_beam(builder: CaptionedAudio, arguments: list[str]) -> None:
    """Writes the missing shards on Apache Beam, with these pipeline options.

    Raises:
      DataError: Beam is not installed.
    """
    try:
        from apache_beam.options import pipeline_options
    except ImportError:
        raise DataError("Apache Beam is not installed; pip install 'supclap_jax[beam]'") from None
    options = pipeline_options.PipelineOptions(arguments)
    runner = options.view_as(pipeline_options.StandardOptions).runner or "DirectRunner"
    builder._download_and_prepare(
        None, tfds.download.DownloadConfig(beam_runner=runner, beam_options=options)
    )
