"""GPUs and threads of this machine, found without loading a framework."""

import os

import pytest

from pipeline.devices.hardware import gpu_software, gpus, hardware, limit_threads, may_have_gpu
from pipeline.errors import UserError


@pytest.mark.parametrize(
    ("files", "names"),
    [
        ([], []),
        (["nvidia5"], ["0"]),
        (["nvidia0", "nvidia2", "nvidiactl", "nvidia-uvm"], ["0", "1"]),
        (["dxg"], ["0"]),
        (["dxg", "nvidia0", "nvidia1"], ["0", "1"]),
    ],
)
def test_gpus_are_numbered_from_0_as_in_cuda(monkeypatch, tmp_path, files, names):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for file in files:
        (tmp_path / file).touch()
    assert gpus(tmp_path) == names


@pytest.mark.parametrize("file", ["nvidia5", "dxg", "kfd", "nvgpu"])
def test_a_framework_may_find_a_gpu_that_is_not_counted(monkeypatch, tmp_path, file):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert not may_have_gpu(tmp_path)
    (tmp_path / file).touch()
    assert may_have_gpu(tmp_path)


@pytest.mark.parametrize(
    ("visible", "names"),
    [("", []), ("-1", []), ("3,1", ["3", "1"]), ("GPU-1f,MIG-2", ["GPU-1f", "MIG-2"])],
)
def test_visible_gpus_keep_their_names(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == names


def test_tests_see_no_gpu():
    assert gpus() == []


def test_the_version_of_the_driver_is_part_of_the_hardware_of_a_gpu(monkeypatch, tmp_path):
    file = tmp_path / "version"
    assert "driver" not in gpu_software(file)
    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
        "GCC version:  gcc version 12.3.0 (Ubuntu 12.3.0-1ubuntu1~22.04)\n"
    )
    assert gpu_software(file)["driver"] == "580.65.06"
    libraries = gpu_software(file).keys() - {"driver"}
    assert not libraries & hardware().keys()  # of a machine without a GPU
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert libraries <= hardware().keys()


def test_more_threads_than_cores_are_refused():
    most = max(os.cpu_count(), len(os.sched_getaffinity(0)))
    message = rf"accelerator.threads=100000: must be null or at most {most}, the cores"
    with pytest.raises(UserError, match=message):
        limit_threads(100000)
