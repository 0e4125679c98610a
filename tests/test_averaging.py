from types import SimpleNamespace

import pytest
import torch
from torch import nn

from relclass.models.averaging import AVERAGE_FILE, WeightAverage


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    network[0].weight.requires_grad_(False)
    return network


def step(average: WeightAverage, number: int, *, value: float) -> None:
    with torch.no_grad():
        for parameter in average.network.parameters():
            if parameter.requires_grad:
                parameter.fill_(value)
    average.on_step_end(None, SimpleNamespace(global_step=number), None)


def test_the_average_moves_by_the_share_that_the_decay_leaves(network) -> None:
    average = WeightAverage(network, decay=0.9)
    with torch.no_grad():
        network[1].bias.fill_(0.0)
    average.start(None)
    step(average, 1000, value=1.0)
    step(average, 1001, value=1.0)
    assert average.average["1.bias"].item() == pytest.approx(1 - 0.9**2)


def test_early_steps_count_for_more(network) -> None:
    average = WeightAverage(network, decay=0.999)
    with torch.no_grad():
        network[1].bias.fill_(0.0)
    average.start(None)
    step(average, 1, value=1.0)
    assert average.average["1.bias"].item() == pytest.approx(1 - 2 / 11)


def test_finishing_replaces_what_was_trained_and_nothing_else(network) -> None:
    frozen = network[0].weight.clone()
    average = WeightAverage(network, decay=0.5)
    average.start(None)
    step(average, 1000, value=3.0)
    expected = {name: tensor.clone() for name, tensor in average.average.items()}
    average.finish()
    assert torch.equal(network[0].weight, frozen)
    assert "0.weight" not in expected
    for name, tensor in expected.items():
        assert torch.equal(network.get_parameter(name), tensor)


def test_a_resumed_average_goes_on_where_it_was(network, tmp_path) -> None:
    average = WeightAverage(network, decay=0.9)
    average.start(None)
    step(average, 1, value=1.0)
    checkpoint = tmp_path / "checkpoint-1"
    checkpoint.mkdir()
    arguments = SimpleNamespace(output_dir=str(tmp_path))
    average.on_save(arguments, SimpleNamespace(global_step=1, is_world_process_zero=True), None)
    assert (checkpoint / AVERAGE_FILE).is_file()
    resumed = WeightAverage(network, decay=0.9)
    resumed.start(checkpoint)
    step(average, 2, value=2.0)
    step(resumed, 2, value=2.0)
    for name, tensor in average.average.items():
        assert torch.equal(resumed.average[name], tensor)
