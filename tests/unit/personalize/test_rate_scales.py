"""Learning rates of generators whose weights are not of unit variance."""

import torch

from factories.packs import tiny_mobile_pack
from mien.personalize.generator_params import rate_scales, weights_for
from mien.personalize.muon import Muon


def test_each_tensor_moves_by_its_own_size(pack):
    factors = lambda generator: {group.rate for group in weights_for(generator, None).groups if group.tensors}
    assert factors(pack.generator) == {1.0}  # at unit variance, and without noise constants
    mobile = tiny_mobile_pack().generator
    assert {0.05, 1.0, 4.0} < factors(mobile)
    compact = weights_for(mobile, 20_000).groups
    assert min(group.rate for group in compact if group.tensors) == 0.05
    assert all(p.ndim == 2 for group in compact if group.matrices for p in group.tensors)
    scales = dict(zip(mobile.tunable_names(), rate_scales(mobile), strict=True))
    assert scales["blocks.2.depthwise"] == scales["heads.16.depthwise.0"] == 4.0
    assert scales["blocks.2.weight"] == scales["heads.16.weight.1"] == scales["heads.16.image_weight"] == 0.05
    assert scales["blocks.0.weight"] == scales["blocks.2.bias"] == scales["blocks.2.noise_const"] == 1.0


def test_depthwise_kernels_are_no_matrices():
    # One input a channel: orthogonalised, each kernel would move as far as all others, whatever its gradient.
    kernel = torch.nn.Parameter(torch.zeros(32, 1, 3, 3))
    optimiser = Muon([{"params": [kernel], "lr": 0.1}], (0.9, 0.99), momentum=0.9, share=0.6, fused=False)
    kernel.grad = torch.zeros_like(kernel)
    kernel.grad[0] = 1.0
    optimiser.step()
    assert kernel[0].abs().max() > 0 and not kernel[1:].any()
