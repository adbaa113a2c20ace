"""The command line: thin commands over the library."""

import os

# Threads of the linear algebra under NumPy would wait, spinning, for the cores that our own threads use; the matrices
# that it is given are small. To be said before NumPy is loaded; what the user has set stays.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
