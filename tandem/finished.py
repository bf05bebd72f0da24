"""A run on disk: its config, metrics, predictions, and its model as its framework knows it."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.experiment import BackendConfig, Config
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.dataset import Data, Field, Split
from pipeline.data.stored_images import StoredImages
from pipeline.errors import BadArgument, UserError
from pipeline.loggers.metrics_file import Row, read_metrics
from pipeline.run import backends
from pipeline.run.backends import TrainedModel
from pipeline.run.experiment import Experiment
from pipeline.run.generation.decoding import Choice
from pipeline.run.generation.generate import continuations, images, targets
from pipeline.run.recording.recorder import Recorder
from pipeline.run.resume import saved_config
from pipeline.run.transfer import export_tested
from pipeline.storage.checkpoints import run_of
from pipeline.storage.predictions import Predictions, read_outputs, read_predictions
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from tandem.frames import frame

if TYPE_CHECKING:
    from pandas import DataFrame

LOAD = "tandem.load"
METRICS = "metrics.jsonl"
GENERATED = ("language", "seq2seq", "denoising")  # tasks whose models make something


@dataclass(frozen=True)
class Run:
    """A run, finished or not; `path` is its folder, or one of its checkpoints."""

    path: Path
    folder: Path
    config: Config
    _models: dict[str, TrainedModel] = field(default_factory=dict, repr=False, compare=False)

    @property
    def result(self) -> RunResult:
        """The content of `result.json`; without a status if the run has not ended."""
        return RunFolder(self.folder).result or RunResult(name=self.folder.name)

    @property
    def status(self) -> str:
        """`completed`, `failed`, `interrupted`, `running`, or empty if it was killed."""
        folder = RunFolder(self.folder)
        return folder.status or ("running" if folder.running else "")

    @property
    def rows(self) -> list[Row]:
        """Metrics of each logged step: `{"step": 20, "train/loss": 0.5, …}`."""
        rows: dict[int, Row] = {}
        for row in read_metrics(self.folder / METRICS):
            rows.setdefault(int(row["step"]), {}).update(row)
        return list(rows.values())

    @property
    def metrics(self) -> "DataFrame":
        """Metrics of each logged step as a pandas frame, a column for each key; it needs pandas."""
        return frame(self.rows).set_index("step")

    @property
    def predictions(self) -> Predictions | dict[str, np.ndarray] | None:
        """The predictions for the test set, in the order of its samples.

        For a classification they are `Predictions`; for other tasks arrays [samples, …] by name: `outputs`,
        or `outputs/NAME` of a structure of your own, or `predicted`, the likeliest classes or tokens.

        None if the run was not tested, or they are more than 2**24 numbers (`predict` makes them anew), or
        the task has none: language models and `denoising` have samples instead (`generate`).
        """
        return read_predictions(self.folder) or read_outputs(self.folder)

    @cached_property
    def data(self) -> Data:
        """The data set; `data.test.fields` has raw samples by name."""
        return sources.load(self.config.dataset, self.config.task)

    @property
    def model(self) -> Any:
        """The model with the weights that were tested, on the CPU, in evaluation mode.

        A `torch.nn.Module`; or a `flax.linen.Module`, bound to its variables: `model(x)`,
        `model.variables`, `model.unbind()`.
        """
        return self._trained(self.config.backend.name).native

    def model_on(self, backend: str) -> Any:
        """Return the model of another backend, with the same weights."""
        return self._trained(backend).native

    def predict(self, *inputs: Field) -> Any:
        """Return the model's outputs for raw samples, prepared as in an evaluation: NumPy `[samples, …]`.

        Args:
            inputs: what the model takes, as the data set holds it: images as uint8 [n, height, width,
                channels].

        Raises:
            UserError: they do not have the shape of the data set's samples.
        """
        expected = [name for name in self.data.inputs if name not in self.data.task.noise]
        given = f"{len(inputs)} arrays"
        if len(inputs) != len(expected):
            allowed = f"called with one array for each of {', '.join(expected)}"
            raise BadArgument(f"run.predict({given})", allowed)
        arrays = [x if isinstance(x, StoredImages) else np.asarray(x) for x in inputs]
        fields = dict(zip(expected, arrays, strict=True))
        for name, array in fields.items():
            wanted = self.data.test.shapes()[name][1:]
            if array.shape[1:] != wanted or not len(array):
                shapes = [f"[{', '.join(map(str, ('n', *wanted)))}]", list(array.shape)]
                raise UserError(name, shapes[1], f"{shapes[0]}, samples as the data set holds them")
        samples = len(next(iter(fields.values())))
        absent = {
            name: np.zeros((samples, *array.shape[1:]), array.dtype)
            for name, array in self.data.test.fields.items()
            if name not in fields and name not in self.data.task.views
        }
        return self._trained(self.config.backend.name).predict(Split(fields | absent))

    def generate(
        self,
        *given: Field | int,
        new: int = 64,
        temperature: float = 0.0,
        top_k: int | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """Return what the model makes itself, in fp64 the same on both backends.

        Args:
            given: for `task=language` tokens [n, length], to be continued; for `task=seq2seq` the sources;
                for `task=denoising` the number of images.
            new: tokens that a language model writes.
            temperature: 0 writes the likeliest token; another number draws it, from logits divided by it.
            top_k: number of the likeliest tokens to draw from; None: all.
            seed: of all that is drawn.

        Raises:
            UserError: models of this task make nothing.
        """
        task, data = self.data.task.name, self.data
        choice = Choice(temperature, top_k, seed)
        if task not in GENERATED:
            allowed = f"called of a run of task={', '.join(GENERATED)}, not {task}"
            raise BadArgument("run.generate()", allowed)
        wanted = ["a number"] if task == "denoising" else data.inputs
        if len(given) != len(wanted):
            allowed = f"called with one argument for each of {', '.join(wanted)}"
            raise BadArgument(f"run.generate({len(given)} arguments)", allowed)
        call = self._trained(self.config.backend.name).call
        arrays = [np.asarray(one) for one in given]
        if task == "denoising":
            return images(call, data, int(arrays[0]), seed)
        if task == "language":
            return continuations(call, data, arrays[0], new, choice)
        return targets(call, data, arrays, choice)

    def _repr_html_(self) -> str:
        from tandem.comparison import compare  # which compares runs

        return compare([self])._repr_html_()

    def __str__(self) -> str:
        tested = "  ".join(f"{key} {value:.4g}" for key, value in self.result.test.items())
        return "  ".join(filter(None, (str(self.folder), self.status, tested)))

    def _trained(self, backend: str) -> TrainedModel:
        if backend not in self._models:
            self._models[backend] = self._load(backend)
        return self._models[backend]

    def _load(self, backend: str) -> TrainedModel:
        with _naming_load():
            [portable] = export_tested(self.path, LOAD)
        config = replace(self.config, backend=BackendConfig(name=backend))
        plan = make_batch_plan(config, self.data)
        experiment = Experiment(config, plan, Recorder(config, self.data), self.folder)
        return backends.load(backend).trained_model(experiment, portable)


def load(path: str | Path) -> Run:
    """Open a run, by its folder or one of its checkpoints.

    Raises:
        UserError: there is none, or its files are damaged.
    """
    path = Path(path)
    with _naming_load():
        return Run(path, run_of(path, LOAD), saved_config(path, LOAD))


@contextmanager
def _naming_load() -> Generator[None]:
    """Name the call that opened a run in an error about it, where a command would name a key."""
    try:
        yield
    except UserError as error:
        if error.key != LOAD:
            raise
        call = f'{LOAD}("{error.value}")'
        raise BadArgument(call, error.allowed, error.hint, problem=error.problem) from error
