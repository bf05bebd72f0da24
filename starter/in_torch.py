"""The network and its loss in torch."""

from collections.abc import Mapping

import torch


class Net(torch.nn.Module):
    """Two hidden layers, then a score for each class."""

    def __init__(self, input_shape: tuple[int, ...], outputs: int, width: int = 32) -> None:
        super().__init__()
        self.hidden1 = torch.nn.Linear(input_shape[-1], width)
        self.hidden2 = torch.nn.Linear(width, width)
        self.head = torch.nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.hidden1(x).tanh()
        x = self.hidden2(x).tanh()
        return self.head(x)


def loss(outputs: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the focal loss (Lin et al. 2017) of each sample, and if its class is right."""
    label = batch["label"]
    log_p = outputs.log_softmax(1).gather(1, label[:, None])[:, 0]
    accuracy = (outputs.argmax(1) == label).to(outputs.dtype)
    return {"loss": -((1 - log_p.exp()) ** 2) * log_p, "accuracy": accuracy}
