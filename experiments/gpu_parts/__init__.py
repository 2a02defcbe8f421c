"""The parts of experiments/gpu.py, one file each."""
