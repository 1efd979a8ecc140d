"""A peer of the benchmarks that trains 7 parameters: --step=sleeps or --step=fails."""

import sys
import time

from benchmarks.peers import protocol


def prepare(options):
    print(options.checkout, options.data, options.batch, options.threads, options.step)

    def step():
        # What it prints by the way must not come between its answers.
        print('step')
        if options.step == 'fails':
            sys.exit('There is no net.py')
        time.sleep(0.02)

    return step, 7


protocol.run(prepare)
