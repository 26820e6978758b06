"""Two processes learn the same as one, on the CPU: `python3 tools/minnow/check_ranks.py`.

With a piece each, but for the order of sums; with the rows of one piece between them, but for the weights of rows, which each counts
among its own.
"""
import os, subprocess, sys, tempfile

import torch

HERE = os.path.dirname(os.path.abspath(__file__))
TOLERANCE, ROWS_TOLERANCE = 1e-4, 0.2  # of weights; of how far they move


def trained(folder, gpus, steps, pieces):
    subprocess.run([sys.executable, os.path.join(HERE, "train.py"), "--tiny", "--skip-check", "--minutes", "0", "--steps", str(steps), "--pieces", str(pieces), "--gpus", str(gpus),
                    "--out", folder], check=True, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
    return torch.load(os.path.join(folder, "state.pt"))["model"]


def distance(a, b, mean=False):
    """Of the weights that differ most, or of all, in the root of the mean square."""
    d = torch.cat([(a[k] - b[k]).flatten() for k in a if a[k].is_floating_point()])
    return d.square().mean().sqrt().item() if mean else d.abs().max().item()


def main():
    with tempfile.TemporaryDirectory() as d:
        def run(gpus, steps, pieces):
            return trained(os.path.join(d, f"{gpus}-{steps}-{pieces}"), gpus, steps, pieces)
        first, one, two = run(1, 1, 2), run(1, 6, 2), run(2, 6, 2)
        moved, apart = distance(first, one), distance(one, two)
        print(f"a piece each: weights move by up to {moved:.1e} in five steps; one and two processes differ by up to {apart:.1e}")
        first, one, two = run(1, 1, 1), run(1, 6, 1), run(2, 6, 1)
        rows_moved, rows_apart = distance(first, one, True), distance(one, two, True)
        print(f"rows of a piece: weights move by {rows_moved:.1e}, one and two processes differ by {rows_apart:.1e} (root of the mean square)")
    return 0 if apart < TOLERANCE < moved and rows_apart < ROWS_TOLERANCE * rows_moved else 1


if __name__ == "__main__":
    sys.exit(main())
