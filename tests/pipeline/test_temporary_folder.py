import os
import signal
import subprocess
import sys
import tempfile

from lock_holder import held_elsewhere
from project_paths import PROGRAMS

from pipeline import configs
from pipeline.temporary_folder import temporary_folder


def test_temporary_files_go_to_a_folder_that_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv('TMPDIR', '/before')
    before = tempfile.gettempdir()
    config = configs.from_preset('tiny', var=str(tmp_path))
    with temporary_folder(config):
        folder = os.environ['TMPDIR']
        assert os.path.dirname(folder) == str(tmp_path / 'tmp')
        assert os.path.dirname(tempfile.mkdtemp()) == folder
        printed = subprocess.check_output(
            [sys.executable, '-S', '-c', 'import tempfile; print(tempfile.mkdtemp())'], text=True
        )
        assert os.path.dirname(printed) == folder
    assert os.listdir(tmp_path / 'tmp') == []
    assert (os.environ['TMPDIR'], tempfile.gettempdir()) == ('/before', before)


def test_what_a_kill_leaves_is_removed_and_what_is_in_use_stays(tmp_path):
    program = PROGRAMS / 'end_in_a_temporary_folder.py'
    killed = subprocess.run([sys.executable, program, tmp_path], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / 'tmp').iterdir()
    assert len(list(left.iterdir())) == 2
    with held_elsewhere(tmp_path / 'tmp' / 'used' / '.in-use'):
        with temporary_folder(configs.from_preset('tiny', var=str(tmp_path))):
            assert not left.exists()
        assert os.listdir(tmp_path / 'tmp') == ['used']
