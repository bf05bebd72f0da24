"""The referee: are two models, or two training loops, the same? And if not, where and why?

`assert_same` is for tests, `record` for training scripts. Importing them loads no more than NumPy.
"""

from pipeline.verify.assertion import assert_same
from pipeline.verify.recordings.recorder import Recorder as record

__all__ = ["assert_same", "record"]
