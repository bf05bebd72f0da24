"""The referee: are two models, or two training loops, the same? And if not, where and why?

`record` and `assert_same` are for scripts and tests of users. Importing them loads NumPy alone.
"""

from pipeline.verify.recordings.recorder import Recorder as record

__all__ = ["record"]
