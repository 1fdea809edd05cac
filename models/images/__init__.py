"""Reading and preprocessing of images."""
