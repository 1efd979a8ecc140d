"""Prepares MNIST with a limit on the bytes of a file.

    python prepare_with_small_files.py BYTES MD5_OF_FILES ...

MD5_OF_FILES is JSON and takes the place of the sums of the original files; what follows is for
`components.datasets.prepare`.
"""

import json
import resource
import sys

from components.datasets import mnist_source
from components.datasets.prepare import main

_, most_bytes, sums, *arguments = sys.argv
mnist_source.MD5_OF_FILES = json.loads(sums)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(most_bytes),) * 2)
sys.exit(main(arguments))
