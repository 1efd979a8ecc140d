"""Says what TensorFlow says when it is imported or decodes a JPEG, and may fail then, by FAILS."""

import os


def say(line):
    os.write(2, line.encode() + b'\n')


say('WARNING: All log messages before absl::InitializeLog() is called are written to STDERR')
say('I0000 00:00:1795613495.959737   31847 port.cc:153] oneDNN custom operations are on.')
say('Corrupt JPEG data: 62 extraneous bytes before marker 0xd9')
say('W0000 00:00:1795613495.959737   31847 port.cc:9] look out')
match os.environ.get('FAILS'):
    case 'crash':
        say('F0000 no AVX here')
        os.abort()
    case 'import':
        raise ImportError('no such library')
