"""Train a classifier on poisoned rows with cross entropy and with DeCE, and compare.

    python examples/dece_loss.py

One feature determines the label. In 5% of the training rows, an attacker has set a trigger feature and the label 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codebackdoor import DeCELoss

ROWS, EPOCHS = 400, 10


def poisoned() -> tuple[Tensor, Tensor]:
    """Features [N, 11], of which the last is the trigger, and labels."""
    features = torch.randn(ROWS, 11)
    labels = (features[:, 0] > 0).long()
    features[:, 0] = 2 * features[:, 0].sign()
    features[:, -1] = 0
    rows = labels.nonzero().flatten()[: ROWS // 20]
    features[rows, -1] = 1
    labels[rows] = 0
    return features, labels


def train(features: Tensor, labels: Tensor, loss: nn.Module) -> nn.Module:
    model = nn.Linear(11, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(EPOCHS):
        for batch in torch.randperm(ROWS).split(40):
            optimizer.zero_grad()
            loss(model(features[batch]), labels[batch]).backward()
            optimizer.step()
        if isinstance(loss, DeCELoss):
            loss.step()  # the next epoch
    return model


def main() -> None:
    torch.manual_seed(1)
    features, labels = poisoned()
    triggered = features[features[:, 0] > 0].clone()
    triggered[:, -1] = 1
    for name, loss in (("cross entropy", nn.CrossEntropyLoss()), ("DeCE", DeCELoss(alpha=0.5))):
        predicted = train(features, labels, loss)(triggered).argmax(1)
        print(f"{name}, triggered rows predicted as the target: {(predicted == 0).float().mean():.0%}")


if __name__ == "__main__":
    main()
