"""Two processes over half a batch each are one process over the whole: loss and gradients."""

from pathlib import Path

import pytest
import torch
from programs import run_python

PROGRAM = Path(__file__).with_name("two_processes.py")
HELPERS = str(Path(__file__).parents[1])


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[dict, dict]:
    """Results of one process, and of two (gloo, DDP), on the same batch."""
    folder = tmp_path_factory.mktemp("processes")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    found = []
    for name, words in (("one", ()), ("two", launcher)):
        result = run_python(*words, PROGRAM, folder / name, PYTHONPATH=HELPERS, OMP_NUM_THREADS="1")
        assert result.returncode == 0, result.stderr[-3000:]
        found.append(torch.load(folder / name, weights_only=True))
    return tuple(found)


def test_the_loss_is_that_of_the_whole_batch(results):
    one, two = results
    torch.testing.assert_close(two["loss"], one["loss"], rtol=1e-5, atol=1e-6)


def test_every_gradient_is_that_of_the_whole_batch(results):
    one, two = results
    assert one["gradients"].keys() == two["gradients"].keys()
    assert any(gradient.abs().max() > 1e-3 for gradient in one["gradients"].values())
    for name, gradient in one["gradients"].items():
        torch.testing.assert_close(two["gradients"][name], gradient, rtol=1e-4, atol=1e-5, msg=name)
