"""The likelihood that the flow of `ffhq-mobile` is trained by."""

import itertools
import math

import numpy as np
import pytest
import torch

from mien.errors import InputError
from mien.nets.styleflow import FlowConfig, StyleFlow
from mien.train.mobile.flow import FlowTraining, negative_log_likelihood, train
from mien.train.mobile.samples import CONDITIONS, Samples, conditions


def test_the_likelihood_is_that_of_the_change_of_variables():
    torch.manual_seed(0)
    flow = StyleFlow(FlowConfig(3, (8,), 2, 32, (1.0, 2.0))).double()
    with torch.no_grad():
        flow.norm_in.running_var.uniform_(0.5, 2)
        flow.norm_out.weight.normal_(std=0.2)
        flow.norm_out.bias.normal_()
    w, condition = torch.randn(1, 3, dtype=torch.float64), torch.randn(1, 2, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: flow.to_prior(x, condition), w)[0, :, 0]
    z = flow.to_prior(w, condition)
    exact = 0.5 * z.square().sum() + 1.5 * math.log(2 * math.pi) - torch.linalg.slogdet(jacobian)[1]
    # The mean over all vectors of signs is the trace itself.
    signs = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3)), dtype=torch.float64)
    estimated = negative_log_likelihood(flow, w.expand(8, -1), condition.expand(8, -1), signs).mean()
    assert torch.allclose(estimated, exact, rtol=1e-6)


def _samples(count: int) -> Samples:
    """Faces whose first latent number is their yaw: a mesh of the canonical face, turned."""
    from mien.face.mesh import canonical_face

    random = np.random.default_rng(0)
    yaw = np.radians(random.uniform(-25, 25, count))
    cos, sin, zero, one = np.cos(yaw), np.sin(yaw), np.zeros(count), np.ones(count)
    turn = np.stack([cos, zero, -sin, zero, one, zero, sin, zero, cos], 1).reshape(-1, 3, 3)
    mesh = 30 * np.einsum("nij,pj->npi", turn, canonical_face()) + 64
    w = random.normal(size=(count, 4)).astype(np.float32)
    w[:, 0] = yaw * 4
    return Samples(w, random.integers(0, 255, (count, 128, 128, 3)).astype(np.uint8), mesh.astype(np.float32))


def test_conditions_are_measured_on_the_mesh():
    samples = _samples(20)
    c = conditions(samples)
    assert c.shape == (20, len(CONDITIONS)) and np.isfinite(c).all()
    assert np.corrcoef(c[:, 0], samples.w[:, 0])[0, 1] > 0.999 or np.corrcoef(c[:, 0], samples.w[:, 0])[0, 1] < -0.999
    assert np.abs(c[:, 1] - c[:, 1].mean()).max() < 1  # no pitch


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_shards_are_said(tmp_path, count):
    for number in range(count):
        (tmp_path / f"{number:04d}.npz").touch()
    with pytest.raises(InputError, match=f"holds {count} shards"):
        train(tmp_path, tmp_path / "run", FlowTraining())
    assert not (tmp_path / "run").exists()


def test_training_learns_what_the_pose_does_and_goes_on(tmp_path):
    for number in range(3):
        part = _samples(150)
        np.savez(tmp_path / f"{number:04d}.npz", w=part.w.astype(np.float16), images=part.images, mesh=part.mesh)
    options = FlowTraining(steps=200, batch=64, rate=1e-2, hidden=(16, 16))
    flow = train(tmp_path, tmp_path / "run", options)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert len(lines) == 2
    again = train(tmp_path, tmp_path / "run", options)  # nothing is left to do
    assert all(torch.equal(a, b) for a, b in zip(flow.parameters(), again.parameters(), strict=True))
    # Turned by 20 degrees, the number that is the yaw moves, and the others far less.
    w = torch.zeros(1, flow.pose.rows, 4)
    moved = flow(w, torch.zeros(1, 2), torch.tensor([[20.0, 0.0]]))[0, 0]
    assert moved[0].abs() > 0.5 and moved[0].abs() > 3 * moved[1:].abs().max()
