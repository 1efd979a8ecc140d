"""A real Chromium without a screen, driven through its DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/ describes the methods and events.
"""

import base64
import contextlib
import itertools
import json
import pathlib
import shutil
import subprocess
import tempfile
import time

import pytest
import websocket

BINARY = (
    shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
)
needs_chromium = pytest.mark.skipif(
    not BINARY, reason='Chromium is not installed (Debian: apt-get install chromium)'
)

_START_SECONDS = 60
_ANSWER_SECONDS = 60
# What a key that is no letter sends besides its name.
_KEY_CODES = {
    'Backspace': 8,
    'Tab': 9,
    'End': 35,
    'Home': 36,
    'ArrowLeft': 37,
    'ArrowUp': 38,
    'ArrowRight': 39,
    'ArrowDown': 40,
    'Delete': 46,
    ' ': 32,
}


@contextlib.contextmanager
def browser():
    """Chromium with a new profile; yields a function that opens a `Page` in it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            *(BINARY, '--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run'),
            *('--remote-debugging-port=0', '--remote-allow-origins=*', '--disable-extensions'),
            *('--disable-background-networking', '--disable-component-update', '--mute-audio'),
            *('--hide-scrollbars', '--disable-dev-shm-usage', '--disable-lcd-text'),
            *(f'--user-data-dir={profile}', 'about:blank'),
        ]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            address = _address(process, pathlib.Path(profile) / 'DevToolsActivePort')
            with contextlib.ExitStack() as pages:
                yield lambda: pages.enter_context(contextlib.closing(Page(address)))
        finally:
            process.terminate()
            process.wait(timeout=30)


def _address(process, port_file):
    """The browser's web socket: the file holds its port and path once it listens."""
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, f'Chromium ended with exit code {process.returncode}'
        lines = port_file.read_text().splitlines() if port_file.exists() else []
        if len(lines) == 2:
            return f'ws://127.0.0.1:{lines[0]}{lines[1]}'
        time.sleep(0.05)
    raise TimeoutError(f'Chromium did not listen within {_START_SECONDS} s')


class Page:
    """One tab, with a profile of its own.

    Attributes:
        complaints: What the console got at level warning or above, exceptions that nobody caught,
            and loads that failed, as text.
    """

    def __init__(self, address):
        self._socket = websocket.create_connection(address, timeout=_ANSWER_SECONDS)
        self._ids = itertools.count(1)
        self._answers = {}
        self._session = None
        self.complaints = []
        context = self.call('Target.createBrowserContext')['browserContextId']
        target = self.call('Target.createTarget', url='about:blank', browserContextId=context)
        attached = self.call('Target.attachToTarget', targetId=target['targetId'], flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')

    def close(self):
        self._socket.close()

    def call(self, method, **parameters):
        """Calls a method of the protocol and returns its result."""
        return self._result(self._send(method, parameters))

    def call_all(self, method, many):
        """Calls a method with each of many parameters, without waiting in between."""
        for number in [self._send(method, parameters) for parameters in many]:
            self._result(number)

    def _send(self, method, parameters):
        message = {'id': next(self._ids), 'method': method, 'params': parameters}
        if self._session:
            message['sessionId'] = self._session
        self._socket.send(json.dumps(message))
        return message['id']

    def _result(self, number):
        while number not in self._answers:
            message = json.loads(self._socket.recv())
            if 'id' in message:
                self._answers[message['id']] = message
            else:
                self._note(message)
        answer = self._answers.pop(number)
        assert 'error' not in answer, answer['error']['message']
        return answer['result']

    def _note(self, event):
        parameters = event.get('params', {})
        if event.get('method') == 'Runtime.exceptionThrown':
            details = parameters['exceptionDetails']
            said = details.get('exception', {}).get('description', details['text'])
        elif event.get('method') == 'Runtime.consoleAPICalled' and parameters['type'] in (
            'error',
            'warning',
            'assert',
        ):
            said = ' '.join(str(part.get('value')) for part in parameters['args'])
        elif event.get('method') == 'Log.entryAdded' and parameters['entry']['level'] in (
            'error',
            'warning',
        ):
            said = f'{parameters["entry"]["text"]} {parameters["entry"].get("url", "")}'
        else:
            return
        self.complaints.append(said)

    def evaluate(self, expression):
        """The value of a JavaScript expression, awaited where it is a promise."""
        answer = self.call(
            'Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True
        )
        assert 'exceptionDetails' not in answer, answer['exceptionDetails']
        return answer['result'].get('value')

    def wait_for(self, expression, seconds=20):
        """Waits until a JavaScript expression is true, and returns its value."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f'not within {seconds} s: {expression}'
            time.sleep(0.02)
        return value

    def show(self, width, height, *, dark=False, phone=False):
        """Emulates a screen: its size in CSS pixels, its colours, whether it is touched."""
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=2,
            mobile=phone,
        )
        self.call('Emulation.setTouchEmulationEnabled', enabled=phone)
        scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
        self.call('Emulation.setEmulatedMedia', features=[scheme])

    def open(self, url):
        self.call('Page.navigate', url=url)
        self.wait_for(f'document.readyState === "complete" && location.href.startsWith("{url}")')

    def mouse(self, points, *, hold=False):
        """Draws a line through points of the window with the left button; `hold` keeps it down."""
        kinds = ['mousePressed', *['mouseMoved'] * (len(points) - 1), 'mouseReleased']
        steps = list(zip(kinds, [*points, points[-1]], strict=True))
        self.call_all(
            'Input.dispatchMouseEvent',
            [
                {
                    'type': kind,
                    'x': x,
                    'y': y,
                    'button': 'left',
                    'buttons': 0 if kind == 'mouseReleased' else 1,
                    'clickCount': 1,
                }
                for kind, (x, y) in (steps[:-1] if hold else steps)
            ],
        )

    def touch(self, points):
        """Draws a line through points of the window with a finger."""
        kinds = ['touchStart', *['touchMove'] * (len(points) - 1), 'touchEnd']
        places = [*([{'x': x, 'y': y}] for x, y in points), []]
        self.call_all(
            'Input.dispatchTouchEvent',
            [
                {'type': kind, 'touchPoints': place}
                for kind, place in zip(kinds, places, strict=True)
            ],
        )

    def press(self, key):
        """Presses and releases a key, given by its name in JavaScript."""
        self.key('keyDown', key)
        self.key('keyUp', key)

    def key(self, kind, key):
        code = {'windowsVirtualKeyCode': _KEY_CODES[key]}
        text = {'text': key} if len(key) == 1 and kind == 'keyDown' else {}
        self.call('Input.dispatchKeyEvent', type=kind, key=key, **code, **text)

    def choose(self, name, path):
        """Chooses a file, as in the dialog of an input with this id."""
        root = self.call('DOM.getDocument')['root']['nodeId']
        node = self.call('DOM.querySelector', nodeId=root, selector=f'#{name}')['nodeId']
        self.call('DOM.setFileInputFiles', nodeId=node, files=[str(path)])

    def screenshot(self, path=None, *, whole=False):
        """PNG of the window, or of the whole page; written to `path` where there is one."""
        shot = self.call('Page.captureScreenshot', captureBeyondViewport=whole)
        png = base64.b64decode(shot['data'])
        if path:
            pathlib.Path(path).write_bytes(png)
        return png
