"""What generator, encoder and flow are trained for: the losses of one step."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mien.face.measures import expression_measures, gaze, pose_measures
from mien.media.images import psnr_from_mse
from mien.nets.face_parser import FaceParser
from mien.nets.generator import Window
from mien.nets.identity_net import IdentityNet
from mien.nets.perceptual import distance_maps, normalised
from mien.personalize.gaze_augmentation import LARGEST
from mien.runtime.precision import autocast_bf16
from mien.train.common import Run
from mien.train.dataset import Batch, Faces, colour_jitter, degraded, resize
from mien.train.expression import ATTRIBUTES, EXPRESSION, PARTS, attribute_masks, expression_channels, swap_channels
from mien.train.losses import attention, eye_loss, pixel_loss
from mien.train.networks import Networks

# What the parser must see in a render, in the order of `expression_measures`: small motions weigh more.
_MEASURE_WEIGHTS = (1.0, 1.0, 1.0, 8.0, 8.0, 2.0, 2.0, 8.0)


# What gaze channels are worth: values of StyleSpace for one eye's width to the right, or down; they take turns, by layer.
GAZE_VALUES = (4.0, 10.0)
_OPEN = 0.06  # eye opening, over the outer-eye distance, under which an iris's place is a guess


class Trainer:
    """One training step and its losses; `size` is the resolution that the losses see."""

    def __init__(
        self, nets: Networks, parser: FaceParser, faces: Faces, size: int, seed: int, device: torch.device | str = "cpu",
        identity: IdentityNet | None = None,
    ) -> None:  # fmt: skip
        self.nets, self.parser, self.faces, self.size = nets, parser.eval().requires_grad_(False), faces, size
        self.identity = None if identity is None else identity.eval().requires_grad_(False)
        self.device = torch.device(device)
        self.random = torch.Generator().manual_seed(seed)
        self.measure_weights = torch.tensor(_MEASURE_WEIGHTS, device=self.device)
        self.outside = np.ones(len(expression_channels()))  # running mean of what `locality` found for each channel
        self.least = torch.zeros(
            len(expression_channels()), device=self.device
        )  # `least_inside` of the pack gone on from

    def image_loss(self, x: Tensor, y: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Pixel loss, perceptual loss and expression loss of renders against images."""
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
        """A random quarter of the picture, rather in its middle than at its rim, where no face is; the rim itself is in one
        of four, or the last block leaves a dark line there."""
        side = self.size // 2
        place = lambda: float((torch.rand(2, generator=self.random).sum() * 0.8 - 0.3).clamp(0, 1))
        top, left = (2 * round(side / 2 * place()) for _ in range(2))
        return Window(top, left, top + side, left + side)

    @torch.no_grad()
    def least_inside(self, count: int = 96) -> Tensor:
        """What each expression channel changes inside its mask now, `[32]`: means over `count` pictures, as `_change` has it."""
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
        """Picture i with channel `numbers[i]` moved by two of its standard deviations over the batch, up or down: mean
        change over the picture, within the attribute's mask and elsewhere, `[N]` both, and the pictures `[N, 3, size, size]`.

        In float32 always: in bfloat16 two renders differ by 0.0008 of 2 everywhere, as much as a gaze channel changes in a
        picture's mean, so that more than half of its share elsewhere was rounding."""
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
        """The share of the change that one channel makes outside its attribute's mask, a scalar in [0, 1], and the pictures
        that moved, `[N, 3, size, size]`.

        `styles` `[N, C_l]` of N pictures, `label [N, 128, 128]`, `size`: one that the pixel losses see, for sums of RGB
        that no loss sees are no pictures. Channels that do little are held to it as much as those that do a lot, and those
        are drawn most that were last seen to do the most elsewhere. More change inside is asked for only where it is less
        than in the pack that training went on from (`least`): never asked for, the share paid for channels that do less of
        everything; always asked for, gaze channels painted an eye black.
        """
        chances = torch.from_numpy(self.outside.clip(0.1, 1))
        numbers = torch.multinomial(chances, len(label), replacement=True, generator=self.random).tolist()
        inside, elsewhere, other = self._change(styles, label, size, numbers)
        inside = torch.where(inside < self.least[numbers], inside, inside.detach())
        shares = elsewhere / (inside + elsewhere).clamp_min(1e-7)
        for number, share in zip(numbers, shares.detach().float().tolist(), strict=True):
            self.outside[number] += 0.1 * (share - self.outside[number])
        return shares.mean(), other

    def read_back(self, picture: Tensor, wished: list[Tensor], spread: list[Tensor]) -> Tensor:
        """How far the encoder's expression channels of `picture [N, 3, S, S]` are from `wished` (StyleSpace `[N, C_l]`), in
        standard deviations of each channel over the batch, `spread` `[C_l]`; a scalar."""
        w = self.nets.encoder(degraded(picture, self.random).contiguous(memory_format=torch.channels_last))
        styles = self.nets.generator.styles(w)
        errors = []
        for layer, counts in EXPRESSION.items():
            first = sum(counts)
            far = (styles[layer] - wished[layer].detach())[:, :first] / spread[layer][:first]
            errors.append(F.smooth_l1_loss(far, torch.zeros_like(far), reduction="none"))
        return torch.cat(errors, 1).mean()

    def told_gaze(self, styles: list[Tensor], points: Tensor) -> tuple[list[Tensor], Tensor]:
        """The pictures' styles with gaze channels as the irises' places say in half of the pictures, and how far the
        encoder's own are from that, a scalar in units of a usual glance.

        Left to the pixels, encoder and generator both know nothing of gaze and have nothing to learn it by from each
        other: a saddle that thousands of steps did not leave. `styles` `[N, C_l]`, `points [N, P, 2]`.
        """
        places = [(layer, index) for layer, index, attribute in expression_channels() if attribute == "gaze"]
        seen = gaze(points)
        open_eyes = expression_measures(points)[:, 3:5].amin(1) > _OPEN
        told = (torch.rand(len(points), generator=self.random).to(points.device) < 0.5) & open_eyes
        out = list(styles)
        far = points.new_zeros(())
        for turn, (layer, index) in enumerate(places):
            own = styles[layer][:, index].float()
            value = GAZE_VALUES[turn % 2] * (seen[:, turn % 2] - seen[:, turn % 2].mean())
            wrong = own - own.mean() - value
            usual = GAZE_VALUES[turn % 2] * LARGEST[turn % 2] / 2
            apart = F.smooth_l1_loss(wrong / usual, torch.zeros_like(wrong), reduction="none")
            far = far + (apart * open_eyes.float()).mean() / len(places)
            if out[layer] is styles[layer]:
                out[layer] = styles[layer].clone()
            out[layer][:, index] = torch.where(told, own.mean().detach() + value, own).to(out[layer].dtype)
        return out, far

    def losses(self, stills: int, pairs: int) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
        """The weighted losses of one step, and (renders, images, renders that have no image to be like) for the adversary."""
        generator, encoder, flow, device = self.nets.generator, self.nets.encoder, self.nets.flow, self.device
        s = self.faces.batch(stills, 0).to(device)
        a, b = (x.to(device) for x in self.faces.pairs(pairs))
        s_image = colour_jitter([s.image], self.random)[0]
        a_image, b_image = colour_jitter([a.image, b.image], self.random)
        everything = torch.cat([s_image, a_image, b_image])
        detailed = self.size > 128 and self.size == generator.resolution
        low = self.size // 2 if detailed else self.size
        target = resize(everything, low)
        with autocast_bf16(device):
            base, offsets = encoder.split(everything.contiguous(memory_format=torch.channels_last))
        w = encoder.w_mean + base[:, None] + offsets
        pose = torch.cat([s.pose, a.pose, b.pose])
        ns, na = stills, stills + pairs
        half = pairs // 2

        # Pairs: a's latent, turned to b's pose; b's expression channels. Swaps: a random other frame's pose (half of
        # the time) and channels; donors are clip frames, which have expressions. One pass of the flow serves both.
        swaps = max(pairs // 2, 1)
        recipients = torch.randperm(na, generator=self.random)[:swaps].to(device)
        donors = torch.randint(ns, ns + 2 * pairs, (swaps,), generator=self.random).to(device)
        turn = (torch.rand(swaps, 1, generator=self.random) < 0.5).to(device)
        swap_pose = torch.where(turn, pose[donors], pose[recipients])
        moved = flow(
            torch.cat([w[ns:na], w[recipients]]),
            torch.cat([pose[ns:na], pose[recipients]]),
            torch.cat([pose[na:], swap_pose]),
        )
        rec = torch.cat([torch.arange(ns), torch.arange(na, na + half)]).to(device)
        chosen = (torch.rand(swaps, 4, generator=self.random) < 0.5).to(device)
        window = self.window()
        with autocast_bf16(device):
            styles = generator.styles(torch.cat([w, moved]))
            n = len(w)
            told, gaze_error = self.told_gaze([x[:n] for x in styles], torch.cat([s.points, a.points, b.points]))
            styles = [torch.cat([x, y[n:]]) for x, y in zip(told, styles, strict=True)]
            of = lambda ids: [layer[ids] for layer in styles]
            # Where b is a itself looking elsewhere, its gaze channels have to be enough, half of the time.
            taken = torch.ones(pairs, 4, dtype=torch.bool, device=device)
            glances = (a.index == b.index) & (torch.rand(pairs, generator=self.random) < 0.5).to(device)
            taken[glances, :3] = False
            pair_styles = swap_channels(of(slice(n, n + pairs)), of(slice(na, n)), taken)
            swap_styles = swap_channels(of(slice(n + pairs, None)), of(donors), chosen)
            some = rec[torch.randperm(len(rec), generator=self.random)[: max(2 * pairs // 3, 2)]]
            outside, other = self.locality(of(some), torch.cat([s.label, a.label, b.label])[some], low)
            joined = [torch.cat([r, p]) for r, p in zip(of(rec), pair_styles, strict=True)]
            if detailed:
                image, detail = generator.synthesis_with_detail(joined, window)
                swap = generator.synthesis_from_styles(swap_styles, low)
            else:
                joined = [torch.cat([r, p]) for r, p in zip(joined, swap_styles, strict=True)]
                image = generator.synthesis_from_styles(joined, low)
                image, swap = image[: len(rec) + pairs], image[len(rec) + pairs :]
        recon, pair = image[: len(rec)], image[len(rec) :]

        join = lambda x, y, k: Batch(
            *(torch.cat([getattr(x, f), getattr(y, f)[:k]]) for f in Batch.__dataclass_fields__)
        )
        rec_batch = join(s, b, half)
        rec_pixels, rec_look, rec_shape = self.image_loss(recon, target[rec], rec_batch)
        pair_pixels, pair_look, pair_shape = self.image_loss(pair, target[na:], b)

        # Swaps: still where they must be, and the donor's expression where they may move.
        labels, points = torch.cat([s.label, a.label]), torch.cat([s.points, a.points])
        donor_points = torch.cat([a.points, b.points])[donors - ns]
        masks = attribute_masks(labels[recipients])
        may = (masks * chosen[:, :, None, None]).amax(1, keepdim=True)
        may = F.interpolate(may, (low, low), mode="bilinear")
        own = target[:na][recipients]
        still = ((swap - own).abs() * (1 - may)).mean((1, 2, 3))
        still = (still * ~turn[:, 0]).sum() / (~turn).sum().clamp_min(1)
        upright = (~turn[:, 0]).nonzero()[:, 0]
        read = swap.new_zeros(())
        if len(upright):
            pasted = torch.lerp(own[upright], swap[upright].detach().clamp(-1, 1), may[upright])
            spread = [layer[:n].detach().std(0).clamp_min(0.02) for layer in styles]
            with autocast_bf16(device):
                read = self.read_back(pasted, [layer[upright] for layer in swap_styles], spread)
        with autocast_bf16(device):
            swap_points = self.parser.landmarks(self.parser.features(swap))
        wished = expression_measures(donor_points)
        before = expression_measures(points[recipients])
        columns = torch.cat([chosen[:, i : i + 1].expand(-1, len(PARTS[n])) for i, n in enumerate(ATTRIBUTES)], dim=1)
        wished = torch.where(columns, wished, before)
        shape = ((expression_measures(swap_points) - wished).abs() * self.measure_weights).mean()
        pose_before, pose_donor = pose_measures(points[recipients]), pose_measures(donor_points)
        pose_now = pose_measures(swap_points)
        turned_error = (pose_now[:, :1] - torch.where(turn, pose_donor[:, :1], pose_before[:, :1])).abs().mean()

        # Gaussian-like base codes and small offsets keep W+ near W (e4e), so that edits stay on faces.
        regular = offsets.square().mean() * 0.02 + (base.square().mean() - 1).clamp_min(0) * 0.02
        eyes = eye_loss(image, torch.cat([target[rec], target[na:]]), torch.cat([rec_batch.label, b.label]))
        losses = {
            "rec": rec_pixels, "look": 0.35 * rec_look, "pair": 1.2 * pair_pixels, "pair_look": 0.45 * pair_look,
            "pair_shape": 0.5 * (pair_shape + rec_shape), "still": 2.0 * still, "shape": 0.8 * shape,
            "turn": 0.7 * turned_error, "w": regular, "outside": 1.0 * outside, "read": 0.25 * read,
            "gaze": 0.3 * gaze_error, "eyes": 0.5 * eyes,
        }  # fmt: skip
        if self.identity is not None:
            with autocast_bf16(device):
                known = self.identity(resize(own, min(low, 128)))
                seen = self.identity(resize(swap, min(low, 128)))
            losses["person"] = 0.15 * (1 - (known.float() * seen.float()).sum(1)).mean()
        # Swaps and single channels have no picture to be like: only the adversary sees what they make of a face.
        free = torch.cat([swap, other])
        made, real = image, torch.cat([target[rec], target[na:]])
        if detailed:
            made, real = detail, window.cut(torch.cat([everything[rec], everything[na:]]))
            both = join(rec_batch, b, len(b.label))
            losses["detail"] = 1.2 * pixel_loss(made, real, window.cut(attention(both.label, both.valid, self.size)), 3)
        return losses, made, real, free

    def upper_losses(self, stills: int, pairs: int, below: int) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
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
        both = Batch(*(torch.cat([getattr(s, f), getattr(b, f)]) for f in Batch.__dataclass_fields__))
        image = torch.cat([s_image, b_image])
        pixels, look, _ = self.image_loss(half, resize(image, self.size // 2), both)
        real = window.cut(image)
        weight = window.cut(attention(both.label, both.valid, self.size))
        losses = {"rec": pixels, "look": 0.35 * look, "detail": 1.2 * pixel_loss(detail, real, weight, 3)}
        return losses, detail, real, detail[:0]

    @torch.no_grad()
    def sheet(self, nets: Networks, run: Run, name: str) -> float:
        """Held-out faces and clip pairs, their renders and swaps; returns PSNR of held-out faces (dB)."""
        get = lambda index: self.faces.get(np.asarray(index), np.zeros(len(index), bool)).to(self.device)
        held = get(self.faces.held_out[:64])
        target = resize(held.image, self.size)
        w = nets.encoder(held.image)
        image = nets.generator.synthesis(w, self.size)
        error = (image.clamp(-1, 1) - target).square().mean((1, 2, 3))
        psnr = float(psnr_from_mse(error.cpu(), peak=2).mean())
        clips = self.faces.clip_of
        first = get([c[10] for c in clips[:10]])
        later = get([c[len(c) * 2 // 3] for c in clips[:10]])
        wa, wb = nets.encoder(first.image), nets.encoder(later.image)
        turned = nets.flow(wa, first.pose, later.pose)
        on = torch.ones(10, 4, dtype=torch.bool, device=self.device)
        styles_b = nets.generator.styles(wb)
        pair = nets.generator.synthesis_from_styles(
            swap_channels(nets.generator.styles(turned), styles_b, on), self.size
        )
        plain = nets.generator.synthesis(turned, self.size)
        own = nets.generator.styles(w[:10])
        drive = nets.generator.synthesis_from_styles(swap_channels(own, styles_b, on), self.size)
        turn = lambda yaw: nets.flow(w[:10], held.pose[:10], w.new_tensor([[yaw, 0.0]]).expand(10, 2))
        left, right = (nets.generator.synthesis(turn(yaw), self.size) for yaw in (-15.0, 15.0))
        show = lambda x: resize(x, self.size)
        run.sheet(
            name, [target[:10], image[:10], left, right, drive, show(first.image), plain, pair, show(later.image)]
        )
        return psnr
