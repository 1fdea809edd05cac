"""Experiments: accuracy in clear against encrypted, speed, and the cipher's strength."""

from he_infer._origin import check_siblings

check_siblings()
