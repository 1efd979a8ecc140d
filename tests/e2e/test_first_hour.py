"""docs/first-hour.md, followed word for word in a copy of the project."""

import json
import re
import shutil
import subprocess

import outer_environment
import pytest
import tensorboard_process
from project_paths import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# Half of the epochs, and no pictures of people: a run takes half the time.
_SHORT = {'EPOCHS': '3', 'FRAMING': 'whole', 'MAX_ACCURACY_DROP': '1', 'MIN_CLASS_ACCURACY': '0'}
_LEFT_OUT = ('.*', 'var', 'build', '__pycache__')


def _blocks(language):
    text = (ROOT / 'docs' / 'first-hour.md').read_text()
    return re.findall(rf'^```{language}\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def clone(tmp_path, mnist_dir):
    """A copy of the project, set up with the packages of this one."""
    folder = tmp_path / 'clone'
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    (folder / '.venv').mkdir()
    for path in (ROOT / '.venv').iterdir():
        (folder / '.venv' / path.name).symlink_to(path)
    # It names the folder that it is for.
    stamp = folder / '.venv' / 'ready'
    text = stamp.read_text().replace(str(ROOT.resolve()), str(folder.resolve()))
    stamp.unlink()
    stamp.write_text(text)
    (folder / 'var').mkdir()
    (folder / 'var' / 'data').symlink_to(mnist_dir)
    return folder


def _run(command, folder):
    """What a command of the page prints, on both of its outputs."""
    environment = {**outer_environment.without_settings(), 'HOME': str(folder.parent), **_SHORT}
    done = subprocess.run(
        ['bash', '-c', command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_page_leads_from_a_clone_to_two_routings_in_tensorboard(clone):
    train, tensorboard, train_again = _blocks('sh')
    assert 'Setting up' not in (first := _run(train, clone))
    assert re.search(r'Trainer +\d', first)
    module, entry = _blocks('python')
    text = (ROOT / 'docs' / 'first-hour.md').read_text()
    (path,) = re.findall(r'Write this\s+to\s+`(.+)`:', text)
    (clone / path).write_text(module)
    choices = clone / 'capsmodel' / 'networks' / 'choices.py'
    table = re.compile(r'^ROUTINGS = \{\n.*?(?=^\}$)', re.MULTILINE | re.DOTALL)
    changed, count = table.subn(lambda found: found[0] + entry, choices.read_text())
    assert count == 1
    choices.write_text(changed)
    second = _run(train_again, clone)
    assert re.search(r'Transform +cached', second)
    assert re.search(r'Trainer +\d', second)
    assert tensorboard == 'make tensorboard PRESET=tiny\n'
    with tensorboard_process.started(clone, PRESET='tiny') as board:
        runs = board.wait_for(lambda: _routings(board) if len(_routings(board)) == 2 else None)
        assert sorted(runs.values()) == ['auto', 'cosine']
        board.wait_for(lambda: {_epochs(board, run) for run in runs} == {3})
        routed = {f'{run}/eval' for run, routing in runs.items() if routing == 'auto'}
        board.wait_for(lambda: _with_couplings(board) == routed)


def _epochs(board, run):
    return len(board.scalars(f'{run}/eval', 'metrics/accuracy'))


def _with_couplings(board):
    """The runs that have a histogram of coupling coefficients."""
    return {
        run
        for run, tags in json.loads(board.get('plugin/histograms/tags')).items()
        if any('coupling' in tag for tag in tags)
    }


def _routings(board):
    """The setting ROUTING_ALGORITHM of each training that TensorBoard shows, by its name."""
    answer = board.post(
        'plugin/hparams/session_groups',
        startIndex=0,
        sliceSize=10,
        allowedStatuses=['STATUS_SUCCESS'],
        colParams=[{'hparam': 'routing_algorithm'}],
    )
    groups = json.loads(answer)['sessionGroups']
    return {
        session['name']: group['hparams']['routing_algorithm']
        for group in groups
        for session in group['sessions']
    }
