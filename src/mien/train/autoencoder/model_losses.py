"""What generator, encoder and flow are trained for: the losses of one step."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.face.gaze_warp import LARGEST
from mien.face.measures import expression_measures, gaze, pose_measures
from mien.nets.face_parser import FaceParser
from mien.nets.generator import Window
from mien.nets.identity_net import IdentityNet
from mien.nets.perceptual import distance_maps, normalised
from mien.runtime.precision import autocast_bf16
from mien.train.autoencoder.step import StepInputs, StepLosses, StepRenders, Swaps, concatenated
from mien.train.dataset import Batch, Faces, colour_jitter, degraded, resize
from mien.train.expression import ATTRIBUTES, EXPRESSION, PARTS, attribute_masks, expression_channels, swap_channels
from mien.train.losses import attention, eye_loss, pixel_loss
from mien.train.networks import Networks

# Weights of `expression_measures` as the parser reads them off a render; small motions weigh more.
_MEASURE_WEIGHTS = (1.0, 1.0, 1.0, 8.0, 8.0, 2.0, 2.0, 8.0)


# StyleSpace values of a gaze channel for one eye's width to the right, or down; channels take turns, by layer.
GAZE_VALUES = (4.0, 10.0)
_MIN_EYE_OPENING = 0.06  # over the outer eye corners' distance; gaze of an eye that is open less is not used


class AutoencoderTrainer:
    """Losses of one training step; `size` is the resolution that the losses see.

    `leak_estimate [32]`: running mean of each channel's share of change outside its mask. `min_inside_change [32]`: the
    change inside its mask that each channel is held to.
    """

    def __init__(
        self, nets: Networks, parser: FaceParser, faces: Faces, size: int, seed: int, device: torch.device | str = "cpu",
        identity: IdentityNet | None = None,
    ) -> None:  # fmt: skip
        self.nets, self.parser, self.faces, self.size = nets, parser.eval().requires_grad_(False), faces, size
        self.identity = None if identity is None else identity.eval().requires_grad_(False)
        self.device = torch.device(device)
        self.random = torch.Generator().manual_seed(seed)
        self.measure_weights = torch.tensor(_MEASURE_WEIGHTS, device=self.device)
        self.leak_estimate = np.ones(len(expression_channels()))
        self.min_inside_change = torch.zeros(len(expression_channels()), device=self.device)

    def image_loss(self, x: Tensor, y: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Pixel, perceptual and expression loss of renders `x` against images `y`, both `[N, 3, S, S]`: three scalars."""
        weight = attention(batch.label, batch.valid, x.shape[-1])
        pixels = pixel_loss(x, y, weight)
        with autocast_bf16(self.device):
            a = self.parser.features(x)
            with torch.no_grad():
                b = self.parser.features(y)
            points = self.parser.landmarks(a)
        d = distance_maps(normalised(a), normalised(b), 64) * attention(batch.label, batch.valid, 64)
        wrong = (expression_measures(points) - expression_measures(batch.points)).abs()
        return pixels, d.mean(), (wrong * self.measure_weights).mean()

    def window(self) -> Window:
        """A random quarter of the image, more often near its middle; one of four reaches the rim, which the last block
        would otherwise never be shown."""
        side = self.size // 2
        place = lambda: float((torch.rand(2, generator=self.random).sum() * 0.8 - 0.3).clamp(0, 1))
        top, left = (2 * round(side / 2 * place()) for _ in range(2))
        return Window(top, left, top + side, left + side)

    @torch.no_grad()
    def inside_change(self, count: int = 96) -> Tensor:
        """Change that each expression channel makes inside its mask now, `[32]`: means over `count` images."""
        stills, (frames, _) = self.faces.batch(count - count // 2, 0), self.faces.pairs(count // 2)
        image, label = (
            torch.cat([getattr(x, name) for x in (stills, frames)]).to(self.device) for name in ("image", "label")
        )
        sums = []
        with autocast_bf16(self.device):
            styles = self.nets.generator.styles(self.nets.encoder(image.contiguous(memory_format=torch.channels_last)))
            for number in range(len(expression_channels())):
                inside, _, _ = self._change(styles, label, min(self.size, 128), [number] * count)
                sums.append(inside.float().mean())
        return torch.stack(sums)

    def _change(
        self, styles: list[Tensor], label: Tensor, size: int, numbers: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Move channel `numbers[i]` of image i by two of its standard deviations over the batch, up or down.

        Returns the mean change inside the attribute's mask and outside it, `[N]` both, and the images
        `[N, 3, size, size]`. In float32 always: bfloat16 rounds by as much as a gaze channel changes an image's mean.
        """
        channels = expression_channels()
        picked = [channels[n] for n in numbers]
        moved = [layer.clone() for layer in styles]
        for i, (layer, index, _) in enumerate(picked):
            amount = 2 * styles[layer][:, index].detach().std().clamp_min(1e-2)
            moved[layer][i, index] += amount if torch.rand((), generator=self.random) < 0.5 else -amount
        both = [torch.cat([a, b]) for a, b in zip(styles, moved, strict=True)]
        with torch.autocast(self.device.type, enabled=False):
            base, other = self.nets.generator.synthesis_from_styles(both, size).chunk(2)
        change = (other - base).abs().sum(1)
        columns = torch.tensor([ATTRIBUTES.index(attribute) for _, _, attribute in picked], device=label.device)
        masks = F.interpolate(attribute_masks(label), (size, size), mode="bilinear")
        mask = masks[torch.arange(len(label), device=label.device), columns]
        return (change * mask).mean((1, 2)), (change * (1 - mask)).mean((1, 2)), other

    def locality(self, styles: list[Tensor], label: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Share of one channel's change outside its mask, a scalar in [0, 1], and the images `[N, 3, size, size]`.

        `styles` `[N, C_l]` of N images, `label [N, 128, 128]`, `size`: a resolution that the pixel losses see, since
        other partial sums of RGB are not images. Channels are drawn in proportion to `leak_estimate`. Hinge: a change
        inside the mask is rewarded only below `min_inside_change`. Without the reward the ratio falls with the
        channel's whole effect; without the bound it falls by overdriving the channel.
        """
        chances = torch.from_numpy(self.leak_estimate.clip(0.1, 1))
        numbers = torch.multinomial(chances, len(label), replacement=True, generator=self.random).tolist()
        inside, elsewhere, other = self._change(styles, label, size, numbers)
        inside = torch.where(inside < self.min_inside_change[numbers], inside, inside.detach())
        shares = elsewhere / (inside + elsewhere).clamp_min(1e-7)
        for number, share in zip(numbers, shares.detach().float().tolist(), strict=True):
            self.leak_estimate[number] += 0.1 * (share - self.leak_estimate[number])
        return shares.mean(), other

    def cycle_consistency(self, image: Tensor, target: list[Tensor], spread: list[Tensor]) -> Tensor:
        """Distance of the encoder's expression channels of `image [N, 3, S, S]` from `target` (StyleSpace `[N, C_l]`),
        in standard deviations of each channel over the batch, `spread` `[C_l]`; a scalar."""
        w = self.nets.encoder(degraded(image, self.random).contiguous(memory_format=torch.channels_last))
        styles = self.nets.generator.styles(w)
        errors = []
        for layer, counts in EXPRESSION.items():
            first = sum(counts)
            error = (styles[layer] - target[layer].detach())[:, :first] / spread[layer][:first]
            errors.append(F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none"))
        return torch.cat(errors, 1).mean()

    def gaze_supervision(self, styles: list[Tensor], points: Tensor) -> tuple[list[Tensor], Tensor]:
        """Set the gaze channels of half of the images to what the irises' positions ask for.

        `styles` `[N, C_l]`, `points [N, P, 2]`. Returns the styles, and the distance of the encoder's own gaze channels
        from those values, a scalar in units of a usual glance. Without it neither encoder nor generator gets a gradient
        of gaze: each would have to learn it from the other.
        """
        places = [(layer, index) for layer, index, attribute in expression_channels() if attribute == "gaze"]
        direction = gaze(points)
        open_eyes = expression_measures(points)[:, 3:5].amin(1) > _MIN_EYE_OPENING
        supervised = (torch.rand(len(points), generator=self.random).to(points.device) < 0.5) & open_eyes
        out = list(styles)
        distance = points.new_zeros(())
        for turn, (layer, index) in enumerate(places):
            axis = turn % 2
            encoded = styles[layer][:, index].float()
            value = GAZE_VALUES[axis] * (direction[:, axis] - direction[:, axis].mean())
            error = (encoded - encoded.mean() - value) / (GAZE_VALUES[axis] * LARGEST[axis] / 2)
            error = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
            distance = distance + (error * open_eyes.float()).mean() / len(places)
            if out[layer] is styles[layer]:
                out[layer] = styles[layer].clone()
            out[layer][:, index] = torch.where(supervised, encoded.mean().detach() + value, encoded).to(
                out[layer].dtype
            )
        return out, distance

    def losses(self, stills: int, pairs: int) -> StepLosses:
        """The losses of one step on `stills` still faces and `pairs` pairs of frames of one clip."""
        x = self._inputs(stills, pairs)
        swaps = self._draw_swaps(x)
        r = self._render(x, swaps)
        count = stills + pairs // 2
        rendered, images = r.image, torch.cat([x.target[x.reconstructed], x.target[x.recipients :]])
        labelled = concatenated(x.stills, x.second, pairs // 2)
        both = concatenated(labelled, x.second, pairs)
        rec_pixels, rec_look, rec_shape = self.image_loss(r.image[:count], images[:count], labelled)
        pair_pixels, pair_look, pair_shape = self.image_loss(r.image[count:], images[count:], x.second)
        # Gaussian-like base codes and small offsets keep W+ near W (e4e), so that edits stay on faces.
        near_w = x.offsets.square().mean() * 0.02 + (x.base.square().mean() - 1).clamp_min(0) * 0.02
        losses = {
            "rec": rec_pixels, "look": 0.35 * rec_look, "pair": 1.2 * pair_pixels, "pair_look": 0.45 * pair_look,
            "pair_shape": 0.5 * (pair_shape + rec_shape), **self._swap_losses(x, swaps, r), "w": near_w,
            "outside": 1.0 * r.leak, "gaze": 0.3 * r.gaze_error, "eyes": 0.5 * eye_loss(r.image, images, both.label),
        }  # fmt: skip
        if r.detail is not None:
            rendered = r.detail
            images = r.window.cut(torch.cat([x.images[x.reconstructed], x.images[x.recipients :]]))
            weight = r.window.cut(attention(both.label, both.valid, self.size))
            losses["detail"] = 1.2 * pixel_loss(rendered, images, weight, 3)
        return StepLosses(losses, rendered, images, torch.cat([r.swap, r.single]))

    def _inputs(self, stills: int, pairs: int) -> StepInputs:
        s = self.faces.batch(stills, 0).to(self.device)
        a, b = (x.to(self.device) for x in self.faces.pairs(pairs))
        images = torch.cat([*colour_jitter([s.image], self.random), *colour_jitter([a.image, b.image], self.random)])
        with autocast_bf16(self.device):
            base, offsets = self.nets.encoder.split(images.contiguous(memory_format=torch.channels_last))
        w_plus = self.nets.encoder.w_mean + base[:, None] + offsets
        target = resize(images, self.size // 2 if self._detailed else self.size)
        return StepInputs(s, a, b, images, target, base, offsets, w_plus, torch.cat([s.pose, a.pose, b.pose]))

    @property
    def _detailed(self) -> bool:
        """Whether whole images are seen at half the resolution and a window of them at the full one."""
        return self.size > 128 and self.size == self.nets.generator.resolution

    def _draw_swaps(self, x: StepInputs) -> Swaps:
        """Random recipients; donors are clip frames, which have expressions; half of the heads are turned too."""
        pairs, first = len(x.first.index), len(x.stills.index)
        count = max(pairs // 2, 1)
        recipients = torch.randperm(x.recipients, generator=self.random)[:count].to(self.device)
        donors = torch.randint(first, first + 2 * pairs, (count,), generator=self.random).to(self.device)
        turned = (torch.rand(count, 1, generator=self.random) < 0.5).to(self.device)
        chosen = (torch.rand(count, len(ATTRIBUTES), generator=self.random) < 0.5).to(self.device)
        return Swaps(recipients, donors, turned, torch.where(turned, x.pose[donors], x.pose[recipients]), chosen)

    def _render(self, x: StepInputs, swaps: Swaps) -> StepRenders:
        """Render reconstructions, pairs, swaps and single channels; one pass of the flow serves pairs and swaps.

        Pair: the first frame's latent, turned to the second's pose, with the second's expression channels.
        """
        generator, n, pairs = self.nets.generator, len(x.w_plus), len(x.first.index)
        firsts, seconds = slice(len(x.stills.index), x.recipients), slice(x.recipients, n)
        turned = self.nets.flow(
            torch.cat([x.w_plus[firsts], x.w_plus[swaps.recipients]]),
            torch.cat([x.pose[firsts], x.pose[swaps.recipients]]),
            torch.cat([x.pose[seconds], swaps.pose]),
        )
        window = self.window()
        with autocast_bf16(self.device):
            styles = generator.styles(torch.cat([x.w_plus, turned]))
            points = torch.cat([x.stills.points, x.first.points, x.second.points])
            supervised, gaze_error = self.gaze_supervision([layer[:n] for layer in styles], points)
            styles = [torch.cat([a, b[n:]]) for a, b in zip(supervised, styles, strict=True)]
            of = lambda ids: [layer[ids] for layer in styles]
            # Where both are one image with its gaze moved, the gaze channels have to be enough, half of the time.
            taken = torch.ones(pairs, len(ATTRIBUTES), dtype=torch.bool, device=self.device)
            only_gaze = (torch.rand(pairs, generator=self.random) < 0.5).to(self.device)
            taken[(x.first.index == x.second.index) & only_gaze, :3] = False
            pair_styles = swap_channels(of(slice(n, n + pairs)), of(seconds), taken)
            swap_styles = swap_channels(of(slice(n + pairs, None)), of(swaps.donors), swaps.chosen)
            rec = x.reconstructed
            some = rec[torch.randperm(len(rec), generator=self.random)[: max(2 * pairs // 3, 2)]]
            labels = torch.cat([x.stills.label, x.first.label, x.second.label])
            leak, single = self.locality(of(some), labels[some], x.low)
            joined = [torch.cat([a, b]) for a, b in zip(of(rec), pair_styles, strict=True)]
            if self._detailed:
                image, detail = generator.synthesis_with_detail(joined, window)
                swap = generator.synthesis_from_styles(swap_styles, x.low)
            else:
                joined = [torch.cat([a, b]) for a, b in zip(joined, swap_styles, strict=True)]
                image = generator.synthesis_from_styles(joined, x.low)
                image, swap, detail = image[: len(rec) + pairs], image[len(rec) + pairs :], None
        own = [layer[:n] for layer in styles]
        return StepRenders(image, swap, single, detail, window, own, swap_styles, leak, gaze_error)

    def _swap_losses(self, x: StepInputs, swaps: Swaps, r: StepRenders) -> dict[str, Tensor]:
        """Losses of swaps: unchanged outside the attributes' masks, the donor's expression and pose, the recipient's
        identity, and channels that the encoder finds again."""
        own = x.target[swaps.recipients]
        masks = attribute_masks(torch.cat([x.stills.label, x.first.label])[swaps.recipients])
        may_change = (masks * swaps.chosen[:, :, None, None]).amax(1, keepdim=True)
        may_change = F.interpolate(may_change, (x.low, x.low), mode="bilinear")
        turned = swaps.turned[:, 0]
        change = ((r.swap - own).abs() * (1 - may_change)).mean((1, 2, 3))
        still = (change * ~turned).sum() / (~turned).sum().clamp_min(1)
        upright = (~turned).nonzero()[:, 0]
        cycle = r.swap.new_zeros(())
        if len(upright):
            pasted = torch.lerp(own[upright], r.swap[upright].detach().clamp(-1, 1), may_change[upright])
            spread = [layer.detach().std(0).clamp_min(0.02) for layer in r.styles]
            with autocast_bf16(self.device):
                cycle = self.cycle_consistency(pasted, [layer[upright] for layer in r.swap_styles], spread)
        shape, turn = self._swap_measures(x, swaps, r.swap)
        losses = {"still": 2.0 * still, "shape": 0.8 * shape, "turn": 0.7 * turn, "read": 0.25 * cycle}
        if self.identity is not None:
            with autocast_bf16(self.device):
                known = self.identity(resize(own, min(x.low, 128)))
                rendered = self.identity(resize(r.swap, min(x.low, 128)))
            losses["person"] = 0.15 * (1 - (known.float() * rendered.float()).sum(1)).mean()
        return losses

    def _swap_measures(self, x: StepInputs, swaps: Swaps, swap: Tensor) -> tuple[Tensor, Tensor]:
        """Errors of a swap's expression and yaw, as the parser reads them, from the donor's where swapped: two scalars."""
        own = torch.cat([x.stills.points, x.first.points])[swaps.recipients]
        donor = torch.cat([x.first.points, x.second.points])[swaps.donors - len(x.stills.index)]
        with autocast_bf16(self.device):
            points = self.parser.landmarks(self.parser.features(swap))
        columns = [swaps.chosen[:, i : i + 1].expand(-1, len(PARTS[name])) for i, name in enumerate(ATTRIBUTES)]
        target = torch.where(torch.cat(columns, dim=1), expression_measures(donor), expression_measures(own))
        shape = ((expression_measures(points) - target).abs() * self.measure_weights).mean()
        yaw = lambda landmarks: pose_measures(landmarks)[:, :1]
        return shape, (yaw(points) - torch.where(swaps.turned, yaw(donor), yaw(own))).abs().mean()

    def upper_losses(self, stills: int, pairs: int, below: int) -> StepLosses:
        """As `losses`, for training only the blocks from resolution `below` on, at `size` 256.

        Stills are reconstructed; a frame b of a clip takes the upper blocks' styles from another frame a, as it will
        when one identity latent serves all frames. So the upper blocks learn texture and no expression.
        """
        s = self.faces.batch(stills, 0).to(self.device)
        a, b = (x.to(self.device) for x in self.faces.pairs(pairs))
        s_image = colour_jitter([s.image], self.random)[0]
        a_image, b_image = colour_jitter([a.image, b.image], self.random)
        generator, window = self.nets.generator, self.window()
        with autocast_bf16(self.device):
            with torch.no_grad():
                w = self.nets.encoder(torch.cat([s_image, b_image, a_image]))
                count = stills + pairs
                upper = torch.cat([w[:stills], w[count:]])
            lower, higher = generator.styles(w[:count]), generator.styles(upper)
            styles = [
                h if layer.resolution >= below else x
                for layer, x, h in zip(generator.layers, lower, higher, strict=True)
            ]
            half, detail = generator.synthesis_with_detail(styles, window)
        both = concatenated(s, b, pairs)
        image = torch.cat([s_image, b_image])
        pixels, look, _ = self.image_loss(half, resize(image, self.size // 2), both)
        real = window.cut(image)
        weight = window.cut(attention(both.label, both.valid, self.size))
        losses = {"rec": pixels, "look": 0.35 * look, "detail": 1.2 * pixel_loss(detail, real, weight, 3)}
        return StepLosses(losses, detail, real, detail[:0])
