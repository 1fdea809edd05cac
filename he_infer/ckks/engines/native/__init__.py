"""A CKKS evaluator compiled by numba, for servers and simulations: it holds no secret and decrypts nothing.

A residue is a float64 between -p/2 and p/2, and a product is reduced with fused multiply-adds, so that eight residues
go through one vector register and all primes have 50 bits or fewer. Ciphertexts and keys are SEAL's, byte for byte.

`kernels` holds what is compiled and `code_cache` keeps its machine code; above them `engine` carries out single
operations and `program` whole plans. `support` says whether this machine can run it and imports nothing of the others;
`self_test` compares it with integers and with SEAL, and `python -m` this package runs that in a process of its own.
"""
