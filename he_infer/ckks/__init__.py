"""The encrypted computation: parameters, packing, plans and engines. Knows no network, no torch, no files."""
