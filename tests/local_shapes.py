"""A small data set that TFDS itself prepares, in its own format."""

import io

import numpy as np
from PIL import Image


def prepare_shapes(root):
    """Prepare images, classes, tags, tokens and numbers below a folder."""
    import tensorflow_datasets as tfds

    with tfds.core.registered.skip_registration():

        class LocalShapes(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.2.0")

            def _info(self):
                features = {
                    "picture": tfds.features.Image(shape=(None, None, 3)),
                    "kind": tfds.features.ClassLabel(names=["round", "flat", "other"]),
                    "tags": tfds.features.Sequence(tfds.features.ClassLabel(names=["a", "b"])),
                    "words": tfds.features.Sequence(np.int32),
                    "weight": tfds.features.Scalar(np.float32),
                    "name": tfds.features.Text(),
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=("picture", "kind"),
                )

            def _split_generators(self, dl_manager):
                return {
                    "train": self._generate_examples(30),
                    "validation": self._generate_examples(8),
                }

            def _generate_examples(self, count):
                for row in range(count):
                    stream = io.BytesIO()
                    Image.new("RGB", (8 + row % 2, 8), (row, 0, 0)).save(stream, format="png")
                    stream.seek(0)
                    yield (
                        row,
                        {
                            "picture": stream,
                            "kind": row % 2,
                            "tags": [0, 1][: row % 3],
                            "words": list(range(1, row % 4 + 1)),
                            "weight": row / 2,
                            "name": f"shape {row}",
                        },
                    )

    LocalShapes.url_infos = {}
    builder = LocalShapes(data_dir=root, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
