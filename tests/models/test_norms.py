"""Whose statistics batch norms keep."""

import torch
from rsseg_models.network import Architecture, build
from rsseg_models.norms import Memory, norms_of, remembering, settled, untracked


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


def test_norms_may_remember_a_part() -> None:
    torch.manual_seed(0)
    whole, half = (build(Architecture("tiny", ("red",), 3)).train() for _ in range(2))
    half.load_state_dict(whole.state_dict())
    start = norms_of(whole)[0].running_mean.clone()
    bands = torch.randn(2, 1, 32, 32) + 5
    whole(bands)
    with remembering(half, 0.5):
        half(bands)
    moved, moved_half = (norms_of(network)[0].running_mean - start for network in (whole, half))
    torch.testing.assert_close(moved_half, moved / 2)
    assert norms_of(half)[0].momentum == norms_of(whole)[0].momentum
    norms_of(half)[0].momentum = None  # the plain mean of all
    with untracked(half):
        before = norms_of(half)[0].running_mean.clone()
        half(bands)
    assert torch.equal(norms_of(half)[0].running_mean, before)
    assert norms_of(half)[0].momentum is None


def test_settled_norms_may_know_both() -> None:
    torch.manual_seed(0)
    network = build(Architecture("tiny", ("red",), 3)).eval()
    batches = [torch.randn(4, 1, 32, 32) + 3 for _ in range(3)]
    new, both = (settled(network, batches, part) for part in (1.0, 0.25))
    for name in ("running_mean", "running_var"):
        old, whole, mixed = (getattr(norms_of(n)[2], name) for n in (network, new, both))
        torch.testing.assert_close(mixed, 0.75 * old + 0.25 * whole)


def test_what_norms_are_to_know_says_what_they_remember() -> None:
    assert Memory.of(0.0) == Memory(source=1.0, mixed=1.0, target=1.0)
    assert Memory.of(1.0) == Memory(source=0.0, mixed=0.0, target=1.0)
    assert Memory.of(0.25) == Memory(source=0.75, mixed=0.0, target=0.25)
