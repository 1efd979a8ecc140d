"""What goes wrong most often: the tests say so, and docs/troubleshooting.md is made from it.

    python tests/support/troubles.py

writes the page. Each trouble is caused by a test, which compares what is printed with this table.
"""

import dataclasses
import os
import re

from project_paths import ROOT

PAGE = ROOT / 'docs' / 'troubleshooting.md'

_TOP = """\
# Troubleshooting

Each command that fails prints one sentence that says what was wrong. The table lists what goes
wrong most often; `...` stands for what differs from case to case. The last line,
`make: *** [...] Error 1`, comes from `make` and says only that the command failed.

The tests cause each of these errors and compare what is printed with this table. The page is made
from them: `python tests/support/troubles.py` writes it.
"""


@dataclasses.dataclass(frozen=True)
class Trouble:
    """A row of the page.

    Attributes:
        symptom: What a person did, or sees.
        printed: What is printed, or the part of it that matters; '...' stands for any text.
        remedy: What to do.
    """

    symptom: str
    printed: str
    remedy: str


TROUBLES = {
    'other folder': Trouble(
        "You are not in the project's folder, or the target does not exist",
        'make: *** No rule to make target ...  Stop.',
        'Change to the folder of the project, or name it: `make -C FOLDER run`. `make` alone lists '
        'the targets.',
    ),
    'wrong python': Trouble(
        'PYTHON names another version',
        'Set-up failed: PYTHON=... is Python ..., but Python ... is needed.',
        'Leave PYTHON out: set-up looks for the right one, and downloads it if it finds none.',
    ),
    'no python': Trouble(
        'There is no suitable Python, and no network',
        'Set-up failed: there is no Python ... that starts, and none could be downloaded: ...',
        'Install the one that the message names, or give the path of one: '
        '`make setup PYTHON=/path/to/python3.10`.',
    ),
    'no venv': Trouble(
        'Python came without pip and venv',
        'Set-up failed: uv cannot be installed without pip or venv: install python3-venv ...',
        'On Debian and Ubuntu: `apt-get install python3-venv`.',
    ),
    'no compiler': Trouble(
        'There is no C++ compiler',
        'Routing is not compiled for this machine, and training takes longer: there is no C++ '
        'compiler. ...',
        'Everything works without one. To train faster, install one (`apt-get install g++`); the '
        'next command uses it.',
    ),
    'no space': Trouble(
        'The disk is too small',
        'Set-up failed: ... GB of free disk space are needed in ..., but only ... GB are there.',
        'Free some space, or clone the project to another disk. `make clean` removes what runs '
        'have written, models included.',
    ),
    'no index': Trouble(
        'The network or the proxy is not set up',
        'Set-up failed: the package index cannot be reached; check the network and the proxy. ...',
        'Behind a proxy: `export HTTPS_PROXY=http://HOST:PORT`. For a mirror of PyPI: '
        '`export UV_DEFAULT_INDEX=https://HOST/simple`.',
    ),
    'wrong line': Trouble(
        'TFX 1.21 does not run on this system',
        'Set-up failed: TFX_LINE=1.21 cannot be installed here: ...',
        'Leave TFX_LINE out. Models and checkpoints work on [both lines](tfx-lines.md).',
    ),
    'no setting': Trouble(
        'The name of a setting is misspelt',
        'There is no setting ...; did you mean ...?',
        '`make settings` lists all settings.',
    ),
    'wrong value': Trouble(
        'A setting has a value that it cannot have',
        'Wrong setting: ... is ...: it must be ...',
        'Take one of the values that the message names.',
    ),
    'no variable': Trouble(
        'A variable belongs to another target',
        'make ... has no variable ....',
        '`make` alone lists the usual variables of each target.',
    ),
    'no mnist': Trouble(
        'MNIST cannot be downloaded',
        'error: mnist cannot be fetched (the download of TFDS: no answer ...',
        'Check the network and the proxy, or download the four files elsewhere and copy them: '
        '`make data IDX_DIR=FOLDER`.',
    ),
    'unknown dataset': Trouble(
        'The name of a dataset is misspelt',
        'TFDS cannot give the dataset ...',
        'Look the name up in the '
        '[catalog of TFDS](https://www.tensorflow.org/datasets/catalog/overview).',
    ),
    'damaged data': Trouble(
        'A file of the prepared dataset is damaged',
        '... is damaged: remove ... and prepare the dataset again...',
        'Remove the folder that the message names and run again.',
    ),
    'no folder': Trouble(
        'The folder of your pictures does not exist',
        'IMAGES is ..., which does not exist',
        'Check the path. A relative one starts at the folder of the project.',
    ),
    'no classes': Trouble(
        'Your pictures are not in sub-folders',
        'IMAGES is ..., which has no sub-folders: it needs one for each class',
        'Make a sub-folder for each class and [move the pictures into them](your-images.md).',
    ),
    'few pictures': Trouble(
        'A class has too few pictures',
        'A class has too few images in a split: ...; and MIN_CLASS_IMAGES asks for at least ...',
        'Add pictures of that class, or lower `MIN_CLASS_IMAGES`.',
    ),
    'damaged pictures': Trouble(
        'Some of your pictures are damaged or of another format',
        '... of the ... images ... cannot be decoded...',
        'Replace or remove the files that the message names, or raise `MAX_BAD_IMAGES`, the '
        'fraction that may be left out.',
    ),
    'no tf config': Trouble(
        'TF_CONFIG is missing or wrong',
        'TF_CONFIG must hold the addresses of all workers as `cluster`, and which of them this '
        'process is as `task`: ...',
        'On one machine: `unset TF_CONFIG`. [Training](training.md) says how several machines '
        'train together.',
    ),
    'no memory': Trouble(
        'The network does not fit into the memory',
        '... of memory, and ... are free: lower BATCH_SIZE or ...',
        'Lower `BATCH_SIZE`, or the size of the images.',
    ),
    'large batch': Trouble(
        'A step takes more images than there are',
        '... more than the ... images ...: lower BATCH_SIZE...',
        'Lower `BATCH_SIZE`.',
    ),
    'not finite': Trouble(
        'The training diverges',
        'The loss is nan at step ..., where the ...',
        'Lower `LEARNING_RATE`.',
    ),
    'full disk': Trouble(
        'The disk is full during a run',
        '...: free some space ...',
        'Free some space and run the same command: it resumes from the last checkpoint.',
    ),
    'below bound': Trouble(
        'The model is worse than a bound',
        'The model is rejected: ... below the bound ...',
        'Train longer (`EPOCHS`), or lower the bound that the message names: `MIN_ACCURACY` and '
        'others, in `make settings`.',
    ),
    'no records': Trouble(
        "ML Metadata's file is damaged",
        "ML Metadata's file ... is damaged...",
        'Do what the message says: put a copy back, or remove the file and train again.',
    ),
    'no baseline': Trouble(
        'The last good model was deleted',
        'The last blessed model is missing: ML Metadata has it in ..., and a new model is compared '
        'with it. ...',
        'Put the folder back, or start without a comparison under another name: '
        '`PIPELINE_NAME=second`.',
    ),
    'nothing pushed': Trouble(
        'There is no model to serve',
        'No model is pushed to ....',
        'Run one of the commands that the message lists. A model of `PRESET=tiny` is served with '
        '`make serve PRESET=tiny`.',
    ),
    'port taken': Trouble(
        'Another program uses the port',
        'Port ... of ... cannot be listened at: Address already in use. ...',
        'Choose another one, for both commands: `make serve PORT=8502`, '
        '`make predict PORT=8502 IMAGE=...`.',
    ),
    'no server': Trouble(
        'The server does not run',
        'No server answers at ...: Connection refused. ...',
        'Start it in another terminal: `make serve`, with the same settings.',
    ),
    'no picture': Trouble(
        'You did not name a picture',
        'Name a picture: make predict IMAGE=docs/seven.png',
        'Give its path as IMAGE.',
    ),
    'other format': Trouble(
        'The picture is no PNG or JPEG',
        'The server refuses: ...neither a PNG nor a JPEG...',
        'Save it as PNG or JPEG.',
    ),
    'no docker': Trouble(
        'Docker is not installed',
        'make serve-docker needs docker and docker compose. What needs neither: make serve...',
        '`make serve` has the same interface.',
    ),
    'nothing trained': Trouble(
        'TensorBoard shows nothing',
        'Nothing is trained in ....',
        'Train first, or give the settings of the run: `make tensorboard PRESET=tiny`.',
    ),
    'no host': Trouble(
        'You did not name the server of Kubeflow Pipelines',
        'Name the server: make kubeflow-run HOST=http://localhost:8080',
        'Give its address as HOST.',
    ),
    'not compiled': Trouble(
        'Nothing is compiled for Kubeflow Pipelines yet',
        '... cannot be read: No such file or directory. `make kubeflow` writes it',
        '`make kubeflow`, with the settings that are to be fixed.',
    ),
}  # fmt: skip


def assert_printed(name: str, text: str) -> None:
    """Fails if the row of this name says something else than what was printed."""
    parts = map(re.escape, TROUBLES[name].printed.split('...'))
    pattern = '.*'.join(parts)
    assert re.search(pattern, text), f'{TROUBLES[name].printed!r} is not in {text!r}'


def page() -> str:
    """The text of docs/troubleshooting.md."""
    rows = [f'| {row.symptom} | {_code(row.printed)} | {row.remedy} |' for row in TROUBLES.values()]
    head = ['| what is wrong | what is printed | what to do |', '| --- | --- | --- |']
    return '\n'.join([_TOP, *head, *rows, ''])


def _code(text: str) -> str:
    """As code, also where the text has backticks in it."""
    return f'`` {text} ``' if '`' in text else f'`{text}`'


def main() -> None:
    unfinished = PAGE.with_name(f'{PAGE.name}.unfinished')
    unfinished.write_text(page())
    os.replace(unfinished, PAGE)


if __name__ == '__main__':
    main()
