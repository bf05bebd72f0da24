"""The memory that a check needs is estimated before it is begun."""

import pytest

from pipeline.errors import UserError
from pipeline.verify.sides.memory import GIGABYTE, available_memory, require_memory
from pipeline.verify.trace.graph import Array, Description


def model(*shape: int) -> Description:
    return Description("torch.nn.Module", (Array("w", shape, "float64"),))


def test_two_models_that_do_not_fit_are_refused_with_their_sizes():
    small, large = model(1000, 1000), model(50_000, 10_000)
    require_memory(small, small, GIGABYTE)
    with pytest.raises(UserError) as caught:
        require_memory(small, large, 20 * GIGABYTE)
    assert str(caught.value) == (
        "--options=…: left and right have 1 and 500 million parameters: their check needs about 47 GB of "
        "memory, 20 GB are free. Make both smaller, with fewer or narrower layers: a mistake shows there, "
        "too."
    )


@pytest.mark.parametrize(
    ("limit", "free"),
    [("max", 3 * GIGABYTE), (str(2 * GIGABYTE), 1.5 * GIGABYTE), (str(8 * GIGABYTE), 3 * GIGABYTE)],
)
def test_the_free_memory_is_what_the_machine_and_its_control_group_leave(tmp_path, limit, free):
    for name, text in {
        "proc/meminfo": f"MemTotal: 99 kB\nMemAvailable:   {3 * 2**20} kB\n",
        "sys/fs/cgroup/memory.max": f"{limit}\n",
        "sys/fs/cgroup/memory.current": f"{GIGABYTE // 2}\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == free


def test_an_unknown_system_refuses_nothing(tmp_path):
    assert available_memory(tmp_path) == float("inf")
    assert 0 < available_memory() < 2**60
