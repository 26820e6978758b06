"""Two processes with a piece each learn the same as one with both pieces, on the CPU: `python3 tools/minnow/check_ranks.py`."""
import os, subprocess, sys, tempfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
TOLERANCE = 1e-4


def trained(folder, gpus, steps):
    subprocess.run([sys.executable, os.path.join(HERE, "train.py"), "--tiny", "--skip-check", "--minutes", "0", "--steps", str(steps), "--pieces", "2", "--gpus", str(gpus),
                    "--out", folder], check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    return torch.load(os.path.join(folder, "state.pt"))["model"]


def distance(a, b):
    return max((a[k] - b[k]).abs().max().item() for k in a if a[k].is_floating_point())


def main():
    with tempfile.TemporaryDirectory() as d:
        first, one, two = (trained(os.path.join(d, f"{gpus}-{steps}"), gpus, steps) for gpus, steps in ((1, 1), (1, 6), (2, 6)))
    print(f"weights move by up to {distance(first, one):.1e} in five steps; one and two processes differ by up to {distance(one, two):.1e}")
    return 0 if distance(one, two) < TOLERANCE < distance(first, one) else 1


if __name__ == "__main__":
    sys.exit(main())
