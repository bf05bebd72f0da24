"""Contrastive learning: which two views are of the same image."""

import torch
from torch import nn

from lightning_impl.tasks.classification import cross_entropies
from lightning_impl.tasks.task_loss import Batch, TaskLoss
from pipeline.tasks import Contrastive
from pipeline.training.model_outputs import check_outputs

SMALLEST = 1e-24  # squared length of an embedding that is divided by its length


class ContrastiveLoss(TaskLoss[Contrastive]):
    """NT-Xent of embeddings `[batch, 2, width]`, and the views that find the other one."""

    def outputs(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return a model's embeddings of both views, or of one if the batch has no other."""
        seconds = {name: second for second, name in self.task.views.items() if second in batch}
        if not seconds:
            return super().outputs(model, batch)
        pairs = [torch.stack([batch[n], batch[seconds.get(n, n)]], dim=1) for n in self.inputs]
        both = self.call(model, *(pair.flatten(end_dim=1) for pair in pairs))
        embeddings = both.unflatten(0, (-1, 2)) if torch.is_tensor(both) else both
        check_outputs(embeddings, {}, self.task, model=self.model.name)
        return embeddings

    def sum_terms(
        self, outputs: torch.Tensor, batch: Batch, smoothing: float
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
