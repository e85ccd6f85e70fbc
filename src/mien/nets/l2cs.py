"""L2CS-Net (Abdelrahman et al. 2022), trained on Gaze360: a face to the direction of its gaze.

ResNet-50 with two classifiers over 90 bins of 4 degrees, whose mean is the angle. Names of tensors are those of
`L2CSNet_gaze360.pkl`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.nets import resnet

SIZE = 448
BINS, STEP, FIRST = 90, 4.0, -180.0  # degrees


class L2CS(nn.Module):
    """Faces `[N, 3, H, W]` in [-1, 1], cut out tightly -> two angles of the gaze in degrees `[N, 2]`."""

    def __init__(self) -> None:
        super().__init__()
        parts = resnet.layers(resnet.Bottleneck, (3, 4, 6, 3))
        self.conv1, self.bn1 = parts[0], parts[1]
        self.layer1, self.layer2, self.layer3, self.layer4 = parts[4:]
        self.fc_yaw_gaze = nn.Linear(2048, BINS)
        self.fc_pitch_gaze = nn.Linear(2048, BINS)

    def forward(self, faces: Tensor) -> Tensor:
        x = F.interpolate(faces, (SIZE, SIZE), mode="bilinear", align_corners=False)
        x = F.max_pool2d(torch.relu(self.bn1(self.conv1(resnet.normalise(x)))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))
        centres = FIRST + STEP * torch.arange(BINS, device=x.device)
        return torch.stack([head(x).softmax(1) @ centres for head in (self.fc_yaw_gaze, self.fc_pitch_gaze)], dim=1)
