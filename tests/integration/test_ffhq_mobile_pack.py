"""What ships of `ffhq-mobile`: the embedded file of trained networks, and the whole pack where it was pulled."""

import pytest
import torch

from mien.packs.convert.mobile_stylegan import CONFIG
from mien.packs.pack import Pack, locate
from mien.packs.pull_ffhq_mobile import FINGERPRINT, NAME, trained_file

MOST_BYTES = 40_000_000


@pytest.fixture(scope="module")
def trained() -> Pack:
    return Pack.load(trained_file())


def test_it_holds_what_was_trained_and_no_generator(trained):
    assert trained.name == NAME and set(trained.networks) == {"heads", "encoder", "flow"}
    assert trained_file().stat().st_size < MOST_BYTES
    assert "research use only" in trained.card["licence"] and not trained.channels_absolute
    config = trained.configs["heads"]
    assert (config["w_dim"], tuple(config["channels"])) == (CONFIG.w_dim, CONFIG.channels)
    assert tuple(config["heads"]) == (256, 512)


def test_the_channels_are_32_of_stylespace_found_by_sensitivity(trained):
    places = {(c.layer, c.index) for c in trained.channels}
    assert len(places) == 32
    assert {c.attribute for c in trained.channels} == {"mouth", "jaw", "eyes", "brows", "gaze"}
    for channel in trained.channels:
        assert channel.scale > 0 and channel.sensitivity > 0 and channel.elsewhere > 0


def test_encoder_and_flow_answer(trained):
    with torch.no_grad():
        w_plus = trained.encoder(torch.zeros(1, 3, 256, 256))
        turned = trained.flow(w_plus, torch.zeros(1, 2), torch.tensor([[15.0, 0.0]]))
        back = trained.flow(turned, torch.tensor([[15.0, 0.0]]), torch.zeros(1, 2))
    assert w_plus.shape == (1, CONFIG.num_ws, CONFIG.w_dim)
    rows = trained.flow.pose.rows
    assert torch.equal(turned[:, rows:], w_plus[:, rows:]) and (turned - w_plus)[:, :rows].abs().max() > 0.01
    assert torch.allclose(back, w_plus, atol=0.02)


@pytest.mark.skipif(not locate(NAME).is_file(), reason="needs `mien models pull ffhq-mobile`")
def test_the_pulled_pack_draws_faces():
    pack = Pack.load(NAME)
    assert pack.fingerprint == FINGERPRINT
    assert pack.generator.sizes == (256, 512, 1024) and pack.generator.num_ws == 23
    with torch.no_grad():
        image = pack.generator.synthesis(pack.need("mapping").w_mean.expand(1, 23, -1), 128)
        again = pack.generator.synthesis(pack.encoder(image), 128)
    assert image.shape == (1, 3, 128, 128)
    assert (again - image).square().mean() < 0.5 * image.var()
