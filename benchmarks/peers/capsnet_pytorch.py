"""adambielski/CapsNet-pytorch: its step as it is (`eager`), or after torch.compile (`compile`).

The network, the losses, their weights and Adam's learning rate are those of its net.py, with the
decoder (`--with_reconstruction`). Its routing stops no gradients: they go through all iterations.
Its routing_iterations counts the updates of the logits: 2 of them are the paper's three iterations.
It also learns the first logits, 11,520 more parameters. Its batches are ready in memory.
"""

from __future__ import annotations

import argparse
import itertools
import os
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.peers import protocol

_ROUTING_ITERATIONS = 2
_LEARNING_RATE = 0.001  # its default
_RECONSTRUCTION_WEIGHT = 0.0005  # its default, for the mean over pixels


def prepare(options: argparse.Namespace) -> tuple[Callable[[], object], int]:
    """See benchmarks.peers.protocol."""
    # With more threads, it starts processes for compiling that outlive it.
    os.environ.setdefault('TORCHINDUCTOR_COMPILE_THREADS', '1')
    import torch

    torch.set_num_threads(options.threads)
    warnings.simplefilter('ignore')  # softmax without `dim`, and the like
    import net

    with np.load(options.data) as arrays:
        images = torch.from_numpy(arrays['images'][:, np.newaxis].astype(np.float32) / 255)
        labels = torch.from_numpy(arrays['labels'])
    starts = range(0, len(images) - options.batch + 1, options.batch)
    endless = itertools.cycle(
        [(images[i : i + options.batch], labels[i : i + options.batch]) for i in starts]
    )
    model = net.CapsNetWithReconstruction(
        net.CapsNet(_ROUTING_ITERATIONS), net.ReconstructionNet(16, 10)
    )
    margin_loss = net.MarginLoss(0.9, 0.1, 0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    model.train()

    def loss_of(images: Any, labels: Any) -> Any:
        reconstructions, lengths = model(images, labels)
        reconstruction_loss = torch.nn.functional.mse_loss(reconstructions, images.view(-1, 784))
        return _RECONSTRUCTION_WEIGHT * reconstruction_loss + margin_loss(lengths, labels)

    if options.step == 'compile':
        loss_of = torch.compile(loss_of)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(*next(endless))
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step, sum(parameter.numel() for parameter in model.parameters())


if __name__ == '__main__':
    protocol.run(prepare)
