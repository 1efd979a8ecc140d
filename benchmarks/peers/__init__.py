"""Training steps of other CapsNets ("peers"), from checkouts of their repositories.

Each peer has an adapter in this folder, a module that runs in the interpreter that the peer needs.
It takes the network, the losses and their weights from the checkout, unchanged, and makes the steps
in `Peer.steps`.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Peer:
    """Facts about a peer.

    Attributes:
        repository: Its repository, with the branch after an @.
        file: A file by which a checkout is recognised.
        steps: The ways to make a training step; see the adapter.
        gradient_mode: Whether gradients go through 'all' iterations of routing or the 'last' only.
    """

    repository: str
    file: str
    steps: tuple[str, ...]
    gradient_mode: str


# The keys are the names of the adapters.
PEERS = {
    'capsnet_keras': Peer(
        'XifengGuo/CapsNet-Keras@tf2.2', 'capsulenet.py', ('train_on_batch', 'function'), 'all'
    ),
    'capsnet_pytorch': Peer(
        'adambielski/CapsNet-pytorch@master', 'net.py', ('eager', 'compile'), 'all'
    ),
}
