"""Takes the pictures of TensorBoard in docs/, of the trainings whose logs are in a folder:

export PYTHONPATH=.:tests/support
.venv/bin/python tools/tensorboard_screenshot.py var/pipeline_root/capsnet/Trainer/model_run
"""

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse

from chromium import browser
from rest_server import opener

_DOCS = pathlib.Path(__file__).parents[1] / 'docs'
_SECONDS = 120  # in which a page must be there
_SCALARS = (
    'metrics/accuracy',
    'metrics/margin_loss',
    'metrics/reconstruction_loss',
    'optimizer/learning_rate',
    'optimizer/gradient_norm',
    'optimizer/images_per_second',
)
_IMAGES = ('confusion matrix', 'worst mistakes')
# Look at the whole page, the insides of its components included.
_FUNCTIONS = """
const all = (selector, root = document) => [...root.querySelectorAll('*')].flatMap((element) => [
    ...(element.matches(selector) ? [element] : []),
    ...(element.shadowRoot ? all(selector, element.shadowRoot) : []),
]);
const named = (selector, text) => all(selector).find((one) => one.textContent.includes(text));
"""


def main():
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else _DOCS
    with _tensorboard(pathlib.Path(sys.argv[1])) as url, browser() as new_page:
        _scalars(new_page(), url, folder / 'tensorboard.png')
        _images(new_page(), url, folder / 'tensorboard_images.png')


@contextlib.contextmanager
def _tensorboard(logdir):
    """TensorBoard itself on a free port, which answers when all is loaded; yields its address."""
    program = pathlib.Path(sys.executable).with_name('tensorboard')
    command = [str(program), '--load_fast=false']
    command += ['--reload_task=blocking', '--reload_interval=0', '--host=localhost', '--port=0']
    with subprocess.Popen(
        [*command, f'--logdir={logdir.name}'],
        cwd=logdir.parent,  # the page shows the folder's name as it is given
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            for line in process.stderr:
                if found := re.search(r'http://localhost:\d+/', line):
                    yield found[0]
                    break
        finally:
            process.terminate()


def _open(page, url, state):
    # Not by page.open(): TensorBoard rewrites the state behind its address.
    page.call('Page.navigate', url=url + state)
    page.wait_for(
        f'document.readyState === "complete" && location.href.startsWith("{url}")', _SECONDS
    )
    page.evaluate(_FUNCTIONS)


def _scalars(page, url, path):
    """Curves of all trainings, as pinned cards."""
    pinned = json.dumps([{'plugin': 'scalars', 'tag': tag} for tag in _SCALARS])
    query = urllib.parse.urlencode({'smoothing': 0, 'runFilter': '/', 'pinnedCards': pinned})
    page.show(1440, 844)  # down to where the pinned cards end
    _open(page, url, f'?{query}#timeseries')
    page.wait_for('!!named("mat-checkbox", "step selection")', _SECONDS)
    page.evaluate('named("mat-checkbox", "step selection").querySelector("input").click()')
    page.evaluate('named("button", "Settings").click()')
    page.wait_for(
        f'all("metrics-pinned-view line-chart canvas").length == {len(_SCALARS)}'
        ' && !all("mat-spinner").length',
        _SECONDS,
    )
    time.sleep(5)  # for lines on their way
    page.screenshot(path)


def _images(page, url, path):
    """What the last training's last evaluation shows, in its own size."""
    with opener.open(f'{url}data/plugin/images/tags') as answer:
        run = max(json.load(answer), key=lambda name: int(name.split('/')[0]))
    state = urllib.parse.urlencode({'tagFilter': '|'.join(_IMAGES), 'regexInput': f'^{run}$'})
    page.call(
        'Emulation.setDeviceMetricsOverride',
        width=1500,
        height=1620,
        deviceScaleFactor=1,
        mobile=False,
    )
    _open(page, url, f'#images&{state.replace("+", "%20")}')
    page.wait_for('!!named("paper-checkbox", "actual image size")', _SECONDS)
    page.evaluate('named("paper-checkbox", "actual image size").click()')
    page.wait_for(
        f'all("img").filter((one) => one.complete && one.naturalWidth'
        f' && one.width == one.naturalWidth).length >= {len(_IMAGES)}',
        _SECONDS,
    )
    time.sleep(2)
    page.screenshot(path)


if __name__ == '__main__':
    main()
