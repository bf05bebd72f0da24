"""The losses of the tasks; see `pipeline.tasks`."""

from flax_impl.device import Device
from flax_impl.tasks.classification import ClassificationLoss
from flax_impl.tasks.contrastive import ContrastiveLoss
from flax_impl.tasks.denoising import DenoisingLoss
from flax_impl.tasks.language import LanguageLoss
from flax_impl.tasks.masked_language import MaskedLanguageLoss
from flax_impl.tasks.multilabel import MultilabelLoss
from flax_impl.tasks.own import OwnLoss
from flax_impl.tasks.regression import RegressionLoss
from flax_impl.tasks.segmentation import SegmentationLoss
from flax_impl.tasks.seq2seq import Seq2SeqLoss
from flax_impl.tasks.task_loss import Batch, Inputs, TaskLoss
from pipeline.config.experiment import Config
from pipeline.data.dataset import Data
from pipeline.training.model_checks import fill_from_data

__all__ = ["Batch", "Inputs", "TaskLoss", "build_loss"]

LOSSES: dict[str, type[TaskLoss]] = {
    "classification": ClassificationLoss,
    "regression": RegressionLoss,
    "language": LanguageLoss,
    "multilabel": MultilabelLoss,
    "segmentation": SegmentationLoss,
    "masked_language": MaskedLanguageLoss,
    "denoising": DenoisingLoss,
    "contrastive": ContrastiveLoss,
    "seq2seq": Seq2SeqLoss,
    "own": OwnLoss,
}


def build_loss(config: Config, data: Data, device: Device) -> TaskLoss:
    """Build the loss of the data set's task."""
    loss = LOSSES[data.task.name](data, device, config.train.label_smoothing)
    loss.model = fill_from_data(config.model, data)
    return loss
