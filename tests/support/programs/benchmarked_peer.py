"""A peer of the benchmarks that trains 7 parameters and holds 100 MB, with three kinds of steps."""

import sys
import time

from benchmarks.peers import protocol


def prepare(options):
    held = b'x' * (100 << 20)
    print(len(held), options.checkout, options.data, options.batch, options.threads, options.step)

    def step():
        # What it prints by the way must not come between its answers.
        print('step')
        if options.step == 'fails':
            sys.exit('There is no net.py')
        time.sleep(0.02)
        return 1.5

    return step, 7


protocol.run(prepare)
