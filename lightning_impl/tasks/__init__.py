"""The losses of the tasks; see `pipeline.tasks`."""

from lightning_impl.device import Device
from lightning_impl.tasks.classification import ClassificationLoss
from lightning_impl.tasks.contrastive import ContrastiveLoss
from lightning_impl.tasks.denoising import DenoisingLoss
from lightning_impl.tasks.language import LanguageLoss
from lightning_impl.tasks.masked_language import MaskedLanguageLoss
from lightning_impl.tasks.multilabel import MultilabelLoss
from lightning_impl.tasks.own import OwnLoss
from lightning_impl.tasks.regression import RegressionLoss
from lightning_impl.tasks.segmentation import SegmentationLoss
from lightning_impl.tasks.seq2seq import Seq2SeqLoss
from lightning_impl.tasks.task_loss import Batch, TaskLoss
from pipeline.config.experiment import Config
from pipeline.data.dataset import Data
from pipeline.training.model_checks import fill_from_data

__all__ = ["Batch", "TaskLoss", "build_loss"]

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
