"""Prints what a pushed version was made of, or what a dataset went into.

`python -m pipeline.lineage` goes back from the newest pushed version of the pipeline to its
dataset, and `--version N` from another one. `--data NAME` goes forward from a dataset to all
trainings on it, whichever pipeline they belong to.
"""

from __future__ import annotations

import argparse
import signal
import sys

from pipeline import configs
from pipeline.lineage.data import of_data
from pipeline.lineage.graph import LineageError
from pipeline.lineage.versions import of_version
from pipeline.metadata_error import MetadataError


def main() -> None:
    """Prints what the Makefile asks for."""
    # Whoever reads only the beginning, such as `head`, ends this quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--version', default='', help='a version; the newest one by default')
    parser.add_argument('--data', default='', help='a dataset, or the start of a fingerprint')
    arguments = parser.parse_args()
    if arguments.version and arguments.data:
        sys.exit(
            'Name VERSION or DATA: one goes back from a model, the other one forward from data'
        )
    config = configs.from_environment_or_exit()
    try:
        if arguments.data:
            lines = of_data(config, arguments.data)
        else:
            lines = of_version(config, arguments.version)
    except (LineageError, MetadataError, configs.SettingError) as error:
        sys.exit(str(error))
    print(*lines, sep='\n')


if __name__ == '__main__':
    main()
