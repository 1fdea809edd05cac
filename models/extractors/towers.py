"""Several small networks side by side as one extractor, and their heads as one head of the same kind.

A network trained on a few hundred images depends much on chance: on its first weights and on the order of images.
The mean of several networks' scores does so less (Hansen and Salamon 1990; Lakshminarayanan et al. 2017). As heads are
linear and polynomial layers, that mean is again such a head: its first layer holds the towers' first layers block by
block, and its last averages. Joined towers with W features and H hidden values cost the server what one network with as
many costs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor, nn

from he_infer.head.layers import Head, Linear, Polynomial
from models.errors import HeadError, InputError
from models.extractors.cnn import Cnn, CnnConfig
from models.extractors.extractor import WIDTHS

MOST = 16
"""Towers that one extractor may have."""


class Towers(nn.Module):
    """(N, in_channels, size, size) -> (N, count * width): the features of equal networks, one after the other."""

    def __init__(self, config: CnnConfig, count: int) -> None:
        super().__init__()
        if not 1 <= count <= MOST or config.map_side or count * config.width > WIDTHS[1]:
            raise InputError(
                f"{count} towers of {config.width} features were asked for. 1 to {MOST} can be joined, to vectors of "
                f"at most {WIDTHS[1]} features, not to maps."
            )
        self.config = config
        self.towers = nn.ModuleList(Cnn(config) for _ in range(count))

    def forward(self, images: Tensor) -> Tensor:
        """Features of a batch of preprocessed images."""
        return torch.cat([tower(images) for tower in self.towers], dim=1)

    @classmethod
    def of(cls, networks: Sequence[Cnn]) -> "Towers":
        """Networks of one shape, with the weights that they have.

        Raises:
            InputError: none, too many, or of several shapes.
        """
        if not networks or any(one.config != networks[0].config for one in networks):
            raise InputError("Towers must be one or more networks of the same shape.")
        joined = cls(networks[0].config, len(networks))
        joined.towers = nn.ModuleList(networks)
        return joined


def joined(heads: Sequence[Head]) -> Head:
    """One head whose scores are the mean of the heads' scores, each head on its own part of the features.

    Raises:
        HeadError: the heads differ in their polynomials or number of layers, or hold a convolution.
    """
    first = heads[0]
    layers: list[Linear | Polynomial] = []
    for index, layer in enumerate(first.layers):
        same = [head.layers[index] if len(head.layers) == len(first.layers) else None for head in heads]
        if isinstance(layer, Polynomial):
            if any(not isinstance(one, Polynomial) or one.coefficients != layer.coefficients for one in same):
                raise HeadError("Only heads with the same polynomials can be joined to one.")
            layers.append(Polynomial(layer.coefficients))
            continue
        parts = [one for one in same if isinstance(one, Linear)]
        if len(parts) < len(heads):
            raise HeadError("Only heads of as many layers, linear and polynomial ones alike, can be joined to one.")
        if index == len(first.layers) - 1:
            weight = np.concatenate([part.weight for part in parts], axis=1) / len(parts)
            layers.append(Linear(weight, np.mean([part.bias for part in parts], axis=0)))
        else:
            weight = np.asarray(block_diag(*(part.weight for part in parts)), dtype=np.float64)
            layers.append(Linear(weight, np.concatenate([part.bias for part in parts])))
    return Head(tuple(layers))
