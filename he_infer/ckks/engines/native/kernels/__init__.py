"""Functions compiled to machine code, with their constants and working memory.

Lowest first: `lanes` (vectors of eight in numba) -> `modular` -> `transforms` -> `polynomials`, `keyswitch` ->
`execution`; beside them `seeds`, `packing` and `drawing`. `entry_points` compiles the functions that Python calls. A
change to any of these sources causes a new compilation, see `code_cache`.
"""
