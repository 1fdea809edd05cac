"""The classifier's head in clear numpy: layers, convolution, and its bundle file."""
