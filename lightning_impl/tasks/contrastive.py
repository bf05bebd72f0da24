"""Contrastive learning: which two views are of the same image."""

import torch

from lightning_impl.tasks.classification import cross_entropies
from lightning_impl.tasks.task_loss import Batch, Smoothing, TaskLoss
from pipeline.tasks import Contrastive

SMALLEST = 1e-24  # squared length of an embedding that is divided by its length


class ContrastiveLoss(TaskLoss[Contrastive]):
    """NT-Xent of embeddings `[batch, 2, width]`, and the views that find the other one."""

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: Smoothing
    ) -> list[torch.Tensor]:
        """Return the sums; a view is compared with all others of all samples."""
        views = outputs.flatten(end_dim=1)
        views = views * views.square().sum(dim=-1, keepdim=True).clamp_min(SMALLEST).rsqrt()
        with torch.autocast(views.device.type, enabled=False):
            cosines = views @ views.T / self.task.config.temperature
        places = torch.arange(len(views), device=views.device)
        cosines = cosines.masked_fill(places[:, None] == places, -torch.inf)
        other = places ^ 1
        loss = cross_entropies(cosines, other, smoothing)
        return [loss.sum() / 2, (cosines.argmax(dim=-1) == other).sum()]
