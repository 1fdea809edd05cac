"""A CKKS evaluator compiled by numba, for servers and simulations: it holds no secret and decrypts nothing.

A residue is a float64 between -p/2 and p/2, and a product is reduced with fused multiply-adds, so that eight residues
go through one vector register and all primes have 50 bits or fewer. Ciphertexts and keys are SEAL's, byte for byte.

`kernels` holds the compiled functions and `code_cache` keeps their machine code. Above them `engine` runs single
operations and `program` whole plans. `support` tells whether this machine can run the engine and imports none of the
others. `self_test` compares results with integers and with SEAL; `python -m` this package runs it in its own process.
"""
