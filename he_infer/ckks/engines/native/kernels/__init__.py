"""Everything that is compiled to machine code, and the constants and working memory that it takes.

Lowest first: `lanes` (vectors of eight in numba) -> `modular` -> `transforms` -> `polynomials`, `keyswitch` ->
`execution`; beside them `seeds`, `packing` and `drawing`. `entry_points` compiles what Python calls. A change to any of
these sources makes other machine code, see `code_cache`.
"""
