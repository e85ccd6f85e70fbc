"""BiSeNet (Yu et al. 2018) as trained for face parsing: 19 classes, with ResNet-18 as its context path.

Parameter names are those of the official checkpoint. Its two auxiliary heads serve training only and are left out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mien.face.masks import CLASSES as FACE_CLASSES
from mien.nets.resnet import MEAN, STD, Basic

INPUT_SIZE = 512
CLASSES = (
    "background", "skin", "left brow", "right brow", "left eye", "right eye", "glasses", "left ear", "right ear",
    "earring", "nose", "mouth", "upper lip", "lower lip", "neck", "necklace", "cloth", "hair", "hat",
)  # fmt: skip
# What of these classes is which class of `nets/face_parser.py`, so that the stages see one kind of parser. BiSeNet does
# not tell irises from eyes.
_MERGED = {"skin": (1,), "brows": (2, 3), "eyes": (4, 5), "nose": (10,), "lips": (12, 13), "inner mouth": (11,)}
_NEVER = -30.0  # logit of a class that is never chosen


class _ConvBN(nn.Module):
    def __init__(self, in_width: int, width: int, kernel: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_width, width, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class ResNet18(nn.Module):
    """ResNet-18 without its classifier: `[N, 3, H, W]` -> maps at 1/8, 1/16 and 1/32 of 2, 4 and 8 `width` channels."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(Basic(width, width, 1), Basic(width, width, 1))
        self.layer2 = nn.Sequential(Basic(width, 2 * width, 2), Basic(2 * width, 2 * width, 1))
        self.layer3 = nn.Sequential(Basic(2 * width, 4 * width, 2), Basic(4 * width, 4 * width, 1))
        self.layer4 = nn.Sequential(Basic(4 * width, 8 * width, 2), Basic(8 * width, 8 * width, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, padding=1)
        eighth = self.layer2(self.layer1(x))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


class _Attention(nn.Module):
    """Refines features by a gate computed from their means over the image."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.conv = _ConvBN(in_width, width)
        self.conv_atten = nn.Conv2d(width, width, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * torch.sigmoid(self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True))))


class _ContextPath(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.resnet = ResNet18(width)
        self.arm16 = _Attention(4 * width, 2 * width)
        self.arm32 = _Attention(8 * width, 2 * width)
        self.conv_head32 = _ConvBN(2 * width, 2 * width)
        self.conv_head16 = _ConvBN(2 * width, 2 * width)
        self.conv_avg = _ConvBN(8 * width, 2 * width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        eighth, sixteenth, last = self.resnet(x)
        # A 1x1 map broadcasts, which is what nearest upsampling of it would give.
        x = self.arm32(last) + self.conv_avg(last.mean((2, 3), keepdim=True))
        x = self.conv_head32(F.interpolate(x, sixteenth.shape[2:], mode="nearest"))
        x = self.conv_head16(F.interpolate(self.arm16(sixteenth) + x, eighth.shape[2:], mode="nearest"))
        return eighth, x


class _Fusion(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.convblk = _ConvBN(width, width, 1)
        self.conv1 = nn.Conv2d(width, width // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(width // 4, width, 1, bias=False)

    def forward(self, spatial: Tensor, context: Tensor) -> Tensor:
        x = self.convblk(torch.cat([spatial, context], dim=1))
        gate = torch.sigmoid(self.conv2(torch.relu(self.conv1(x.mean((2, 3), keepdim=True)))))
        return x * gate + x


class _Output(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv = _ConvBN(width, width)
        self.conv_out = nn.Conv2d(width, classes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))


class BiSeNet(nn.Module):
    """Face parsing. `forward` answers in the classes that all of mien's parsers share, `logits` in BiSeNet's own.

    `width`: channels of the trunk's first stage, 64 in the official checkpoint.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.cp = _ContextPath(width)
        self.ffm = _Fusion(4 * width)
        self.conv_out = _Output(4 * width, len(CLASSES))
        # (x + 1) / 2 - mean, over std, as one affine step from [-1, 1].
        self.register_buffer("mean", 2 * torch.tensor(MEAN)[:, None, None] - 1, persistent=False)
        self.register_buffer("std", 2 * torch.tensor(STD)[:, None, None], persistent=False)

    def logits(self, x: Tensor) -> Tensor:
        """ImageNet-normalised `[N, 3, H, W]` -> logits `[N, 19, H / 8, W / 8]` in the order of `CLASSES`.

        Trained at 512x512; the original upsamples the result to the input's size (bilinear, corners aligned).
        """
        return self.conv_out(self.ffm(*self.cp(x)))

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Images `[N, 3, H, W]` in [-1, 1], any size -> parsing logits `[N, 8, 64, 64]` (`mien.face.masks.CLASSES`)."""
        if image.shape[-1] > INPUT_SIZE:
            image = F.interpolate(image, (INPUT_SIZE, INPUT_SIZE), mode="area")
        elif image.shape[-1] < INPUT_SIZE:
            image = F.interpolate(image, (INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        own = self.logits((image - self.mean) / self.std)
        named = {i for members in _MERGED.values() for i in members}
        members = _MERGED | {"other": tuple(i for i in range(len(CLASSES)) if i not in named)}
        merged = [
            own[:, list(members[name])].logsumexp(1) if name in members else torch.full_like(own[:, 0], _NEVER)
            for name in FACE_CLASSES
        ]
        return (torch.stack(merged, dim=1),)
