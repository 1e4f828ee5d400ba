"""Whose statistics batch norms keep."""

import torch
from rsseg_models.network import Architecture, build
from rsseg_models.norms import norms_of, settled, untracked


def test_untracked_norms_use_a_batch_and_forget_it() -> None:
    network = build(Architecture("tiny", ("red", "nir"), 3)).train()
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    with untracked(network):
        first = network(torch.randn(2, 2, 32, 32) + 5)
    assert first.isfinite().all()
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    network(torch.randn(2, 2, 32, 32) + 5)
    assert not all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())


def test_settled_norms_know_the_new_bands_alone_and_the_first_network_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    network = build(Architecture("tiny", ("red", "nir"), 3)).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batches = [torch.randn(4, 2, 32, 32) + 3 for _ in range(5)]
    found = settled(network, batches)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    first, was = norms_of(found)[0], norms_of(network)[0]
    assert first.momentum == was.momentum
    assert not found.training
    seen: list[torch.Tensor] = []
    first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for bands in batches:
        found(bands)
    torch.testing.assert_close(first.running_mean, torch.cat(seen).mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    again = settled(found, batches)
    torch.testing.assert_close(norms_of(again)[0].running_var, first.running_var)
