"""An equivalent key of version 1 from a few thousand chosen images: who has it reads unseen images without the key.

The four sweeps of version 1 are solved for one after the other, the last one first:

    oracle.py      the victim: enciphers chosen images of 1024 x 32 words, and counts them
    solvers.py     equations modulo 2^w, solved whole or by trying one unknown
    cell_keys.py   the key of a cell, solved bit by bit
    line_keys.py   keys of two words or lines, solved bit by bit
    sweeps.py      a sweep undone in many images at once
    upward.py      last sweep (up): constants from images that differ in one pixel
    downward.py    third sweep (down): a key word for each cell
    leftward.py    second sweep (left): a key word for each row
    rightward.py   first sweep (right) and the order of the pixels
    attack.py      the four together, and the reader that they give

The attack works since each sweep's constants are the same in all rows, since two of the sweeps have one key word a
line, and since one cipher word reaches at most 64 plain words. It uses nothing but `Encrypt` and the public design.
"""
