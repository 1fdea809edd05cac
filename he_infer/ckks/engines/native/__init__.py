"""A CKKS evaluator compiled by numba, for servers and simulations: it holds no secret and decrypts nothing.

A residue is a float64 between -p/2 and p/2, and a product is reduced with fused multiply-adds, so that eight residues
go through one vector register and all primes have 50 bits or fewer. Ciphertexts and keys are SEAL's, byte for byte.

Lowest first: `lanes` (vectors of eight in numba) -> `modular` -> `transforms` -> `keyswitch`, `polynomials`, `seeds`,
`packing` -> `kernels` (compiles them, keeps the machine code) -> `engine`, `program`. `support` says whether this
machine can run it and imports nothing of the others; `self_test` compares it with integers and with SEAL.
"""
