"""How results are shown: tables on the screen, charts, pages, progress."""
