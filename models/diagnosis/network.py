"""EfficientNet-Lite0 on the lesion's crop: grey and mask in, one logit of malignancy out."""

from __future__ import annotations

import torch

from models.training.encoder import Encoder


class DiagnosisNet(torch.nn.Module):
    """Crop (n, 2, s, s), grey 0..1 and lesion mask 0..1 -> logit (n,)."""

    def __init__(self, *, pretrained: bool = True) -> None:
        super().__init__()
        self.encoder = Encoder(further_channels=1, pretrained=pretrained)
        self.dropout = torch.nn.Dropout(0.4)
        self.last = torch.nn.Linear(1280, 1)

    def forward(self, crop: torch.Tensor) -> torch.Tensor:
        """See the class."""
        features = self.encoder.final(self.encoder(crop)[-1])
        return self.last(self.dropout(features))[:, 0]
