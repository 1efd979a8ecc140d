"""The page at /demo, in a real browser, on a network that was trained on MNIST."""

import base64
import io
import itertools
import json
import operator
import shutil

import numpy as np
import pytest
from chromium import browser, needs_chromium
from drawing_page import (
    DESKTOP,
    PHONE,
    answer,
    click,
    draw,
    is_shown,
    opacity,
    open_demo,
    painted,
    strokes_at,
)
from photograph import as_photograph
from PIL import Image
from rest_server import request, rest_server
from strokes import DIGITS

COLOUR_NAMES = ['red', 'dark green', 'dög']

pytestmark = needs_chromium

FIELD = 28

# Keeps of each request its signature, and when it began and ended.
_NOTE_REQUESTS = """(() => {
  const ask = fetch;
  window.asked = [];
  window.fetch = async (url, options) => {
    const began = performance.now();
    const response = await ask(url, options);
    const ended = performance.now();
    if (options.body) {
      asked.push({ signature: JSON.parse(options.body).signature_name, began, ended });
    }
    return response;
  };
})()"""


def test_a_drawn_seven_is_a_seven(page):
    assert answer(page) == (None, [0] * 10)
    draw(page, 7)
    winner, lengths = answer(page)
    assert winner == 7
    assert lengths[7] == max(lengths) > 0.5
    bars = page.evaluate(
        '[...document.querySelectorAll(".capsule")].map('
        '(bar) => Number(bar.style.getPropertyValue("--length")))'
    )
    np.testing.assert_allclose(bars, lengths, atol=0.005)
    assert page.evaluate('document.getElementById("winner").textContent') == 'capsule\u00a07'
    page.wait_for('document.getElementById("says").textContent.startsWith("7, length 0.")')
    assert page.evaluate('document.getElementById("served").textContent') == (
        'Model digits, version 3'
    )


def test_bars_are_what_the_server_says_of_the_picture_that_is_shown(page, digits_url):
    draw(page, 3)
    winner, lengths = answer(page)
    seen = opacity(page, '#seen')
    assert seen.shape == (FIELD, FIELD)
    pixels = seen.tolist()
    body = json.dumps({'signature_name': 'pixels', 'inputs': [pixels]}).encode()
    _, _, text = request('POST', f'{digits_url}:predict', body)
    outputs = json.loads(text)['outputs']
    assert outputs['label'] == [winner]
    np.testing.assert_allclose(outputs['scores'][0], lengths, atol=0.006)


def test_bars_move_while_a_digit_is_drawn(page):
    (points,) = strokes_at(page, 6)
    page.mouse(points, hold=True)
    page.wait_for('!!document.querySelector(".bar.wins")')
    page.mouse([points[-1]])


def test_few_requests_for_many_points(page):
    """One at a time for each signature, and a pause of 50 ms after each."""
    page.evaluate(_NOTE_REQUESTS)
    (points,) = strokes_at(page, 0)
    page.mouse(points[:1], hold=True)
    for x, y in points * 4:  # one by one: the browser would make one event of many
        page.call('Input.dispatchMouseEvent', type='mouseMoved', x=x, y=y, button='left', buttons=1)
    page.call('Input.dispatchMouseEvent', type='mouseReleased', x=x, y=y, button='left')
    assert answer(page)[0] == 0
    asked = sorted(page.evaluate('asked'), key=operator.itemgetter('began'))
    # For each look at the drawing: the answer, and the sliders' pictures.
    for signature in ('explain', 'decode'):
        times = [each for each in asked if each['signature'] == signature]
        assert len(times) > 1
        for one, following in itertools.pairwise(times):
            assert following['began'] - one['ended'] > 49  # timers may round


def _read_all(page, **place):
    """What the digits are taken for when they are drawn there, and their ink as it is seen."""
    found, ink = [], []
    for digit in DIGITS:
        draw(page, digit, **place)
        found.append(answer(page)[0])
        ink.append(int(opacity(page, '#seen').sum()))
        click(page, 'clear')
    return found, np.array(ink)


def test_digits_are_read_wherever_and_however_large_they_are_drawn(page, mnist_test):
    found, ink = _read_all(page)
    assert sum(map(operator.eq, found, DIGITS)) >= 9, found
    genuine = [mnist_test.images[mnist_test.labels == digit].sum() for digit in DIGITS]
    counts = [np.sum(mnist_test.labels == digit) for digit in DIGITS]
    assert 0.8 < np.mean(ink) / np.mean(np.divide(genuine, counts)) < 1.25
    # In a corner, as small as they get: with the same pen, yet no thicker for the network.
    found, small = _read_all(page, size=0.25, left=0.7, top=0.05)
    assert sum(map(operator.eq, found, DIGITS)) >= 9, found
    np.testing.assert_allclose(small, ink, rtol=0.1)


def test_sliders_bend_the_picture_and_reset_straightens_it(page):
    assert page.evaluate('document.querySelectorAll("#sliders input:enabled").length') == 0
    draw(page, 2)
    answer(page)
    straight = opacity(page, '#reconstruction')
    assert straight.shape == (FIELD, FIELD)
    assert straight.max() > 100
    assert page.evaluate('document.querySelectorAll("#sliders input:enabled").length') == 16
    pictures = []
    for number in range(16):
        page.evaluate(f'document.querySelectorAll("#sliders input")[{number}].focus()')
        page.press('End')
        answer(page)
        pictures.append(opacity(page, '#reconstruction').astype(int))
        assert page.evaluate('document.activeElement.value') == '0.25'
        page.evaluate('document.getElementById("straighten").click()')
        answer(page)
        np.testing.assert_array_equal(opacity(page, '#reconstruction'), straight)
    changes = [np.abs(picture - straight).max() for picture in pictures]
    assert min(changes) > 0, changes


def test_small_pictures_show_where_a_slider_leads(page):
    draw(page, 2)
    answer(page)
    page.evaluate('document.querySelectorAll("#sliders canvas")[5].id = "upper_end_of_third"')
    promised = opacity(page, '#upper_end_of_third')
    page.evaluate('document.querySelectorAll("#sliders input")[2].focus()')
    page.press('End')
    answer(page)
    np.testing.assert_allclose(opacity(page, '#reconstruction'), promised, atol=1)
    np.testing.assert_array_equal(opacity(page, '#bent'), opacity(page, '#reconstruction'))


def test_drawing_on_straightens_the_sliders(page):
    draw(page, 1)
    answer(page)
    page.evaluate('document.querySelectorAll("#sliders input")[0].focus()')
    page.press('Home')
    answer(page)
    draw(page, 1, left=0.1)
    answer(page)
    assert page.evaluate('document.querySelectorAll("#sliders input")[0].value') == '0'
    assert page.evaluate('document.getElementById("straighten").disabled')


def test_undo_and_clear(page):
    draw(page, 4)
    first = answer(page)
    assert first[0] == 4
    click(page, 'undo')
    assert answer(page)[0] != 4
    draw(page, 4)
    click(page, 'clear')
    assert answer(page) == (None, [0] * 10)
    assert not opacity(page, '#reconstruction').any()
    assert not opacity(page, '#drawing').any()
    assert page.evaluate('document.getElementById("clear").disabled')
    # The clearing, and the second drawing's two strokes.
    for _ in range(3):
        click(page, 'undo')
    click(page, 'undo')
    assert page.evaluate('document.getElementById("undo").disabled')
    assert answer(page)[0] is None


def test_by_keyboard_alone(page):
    page.press('Tab')
    assert page.evaluate('document.activeElement.id') == 'drawing'
    assert page.evaluate('getComputedStyle(document.getElementById("cursor")).display') == 'block'
    for _ in range(8):
        page.press('ArrowLeft')
    page.press(' ')
    for _ in range(16):
        page.press('ArrowRight')
    # Both held: diagonally.
    page.key('keyDown', 'ArrowDown')
    for _ in range(11):
        page.press('ArrowLeft')
    page.key('keyUp', 'ArrowDown')
    for _ in range(15):
        page.press('ArrowDown')
    assert answer(page)[0] == 7
    page.press('Delete')
    assert answer(page)[0] is None
    page.press('Backspace')
    assert answer(page)[0] == 7
    page.press('Backspace')
    assert answer(page)[0] is None
    names = []
    while 'drawing' not in names:
        page.press('Tab')
        names.append(page.evaluate('document.activeElement.id'))
        assert len(names) < 10
    # Undo and Clear are off while there is nothing to take back, and so are the sliders.
    assert set(names) <= {'', 'drawing', 'choose', 'two', 'card'}
    assert 'choose' in names


def test_on_a_phone_by_finger(new_page, digits_url):
    page = new_page()
    page.show(*PHONE, phone=True, dark=True)
    open_demo(page, digits_url)
    draw(page, 5, hand='touch')
    assert answer(page)[0] == 5
    width, scrolled = page.evaluate('[document.documentElement.scrollWidth, scrollY]')
    assert (width, scrolled) == (PHONE[0], 0)
    # What a finger has to hit: 44 px, as WCAG 2.2's 2.5.5 has it.
    heights = page.evaluate(
        '[...document.querySelectorAll("button")].map((b) => b.getBoundingClientRect().height)'
    )
    assert min(heights) >= 44
    in_sight = page.evaluate(
        'document.querySelector(".bar.wins").getBoundingClientRect().bottom < innerHeight'
    )
    assert in_sight
    # While the sliders are used, the picture that they bend is in sight.
    page.evaluate('document.querySelector("#sliders li:last-child").scrollIntoView()')
    top, bottom = page.evaluate(
        '(({top, bottom}) => [top, bottom])'
        '(document.getElementById("bent").getBoundingClientRect())'
    )
    assert 0 <= top < bottom < PHONE[1]
    assert page.complaints == []


def test_a_photograph_is_read(page, mnist_test, tmp_path):
    """The browser turns it as the camera says, and sends no more pixels than are of use."""
    sevens = mnist_test.images[mnist_test.labels == 7]
    (tmp_path / 'seven.jpg').write_bytes(as_photograph(sevens[0], turned=True))
    draw(page, 1)
    assert answer(page)[0] == 1
    page.choose('file', tmp_path / 'seven.jpg')
    page.wait_for('!document.getElementById("photograph").hidden')
    assert answer(page)[0] == 7
    assert is_shown(page, 'photograph')
    assert page.evaluate('(({width, height}) => [width, height])(photograph)') == [1024, 768]
    # What the network sees is a digit as MNIST has it, nearly the one that was photographed.
    seen = opacity(page, '#seen').astype(float)
    assert np.corrcoef(seen.ravel(), sevens[0].ravel())[0, 1] > 0.7
    # The drawing comes back by Undo.
    click(page, 'undo')
    assert not is_shown(page, 'photograph')
    assert answer(page)[0] == 1
    # Whoever draws on a photograph draws a new picture.
    page.choose('file', tmp_path / 'seven.jpg')
    page.wait_for('!document.getElementById("photograph").hidden')
    draw(page, 1)
    assert not is_shown(page, 'photograph')
    assert answer(page)[0] == 1


@pytest.mark.parametrize('way', ['paste', 'drop'])
def test_a_picture_can_be_pasted_and_dropped(page, mnist_test, way):
    """A PNG comes to the network as it is: an image of MNIST needs no framing."""
    image = mnist_test.images[mnist_test.labels == 2][0]
    file = io.BytesIO()
    Image.fromarray(image).save(file, 'PNG')
    data = 'clipboardData' if way == 'paste' else 'dataTransfer'
    event = 'ClipboardEvent' if way == 'paste' else 'DragEvent'
    encoded = base64.b64encode(file.getvalue()).decode()
    page.evaluate(
        f'((bytes) => {{ const {data} = new DataTransfer(); '
        f'{data}.items.add(new File([bytes], "two.png", {{type: "image/png"}})); '
        f'document.body.dispatchEvent(new {event}("{way}", {{{data}, bubbles: true}})); }})'
        f'(Uint8Array.from(atob("{encoded}"), (c) => c.charCodeAt(0)))'
    )
    page.wait_for('!document.getElementById("photograph").hidden')
    assert answer(page)[0] == 2
    np.testing.assert_array_equal(opacity(page, '#seen'), image)


def test_what_is_no_picture_is_named(page, tmp_path):
    (tmp_path / 'notes.png').write_text('seven')
    draw(page, 7)
    page.choose('file', tmp_path / 'notes.png')
    said = page.wait_for('document.getElementById("refused").textContent')
    assert said == 'This browser cannot read “notes.png” as a picture. Save it as PNG or JPEG.'
    assert is_shown(page, 'refused')
    assert answer(page)[0] == 7
    click(page, 'clear')
    assert not is_shown(page, 'refused')


def test_it_says_so_when_a_picture_is_no_digit(page, tmp_path):
    assert not is_shown(page, 'unknown')
    Image.new('RGB', (64, 48), (90, 120, 200)).save(tmp_path / 'sky.png')
    page.choose('file', tmp_path / 'sky.png')
    page.wait_for('!document.getElementById("photograph").hidden')
    winner, _ = answer(page)
    page.wait_for('document.getElementById("unknown").checkVisibility()')
    page.wait_for(
        'document.getElementById("says").textContent.startsWith("None of the classes that '
        f'the network knows; the closest is {winner}, length 0.")'
    )
    click(page, 'clear')
    assert not is_shown(page, 'photograph')
    assert not is_shown(page, 'unknown')
    assert answer(page) == (None, [0] * 10)
    draw(page, 7)
    assert answer(page)[0] == 7
    page.wait_for('document.getElementById("says").textContent.startsWith("7, length 0.")')
    assert not is_shown(page, 'unknown')


def test_dark_and_light(new_page, digits_url):
    brightness = {}
    for dark in (False, True):
        page = new_page()
        page.show(*DESKTOP, dark=dark)
        open_demo(page, digits_url)
        draw(page, 1)
        answer(page)
        shot = np.array(Image.open(io.BytesIO(page.screenshot())).convert('L'))
        x, y, width, height = page.evaluate(
            '(({x, y, width, height}) => [x, y, width, height].map((v) => Math.round(2 * v)))'
            '(document.getElementById("drawing").getBoundingClientRect())'
        )
        area = shot[y : y + height, x : x + width]
        ground = int(np.median(area))
        # The ink is what differs most from the ground.
        ink = int(area.min() if ground > 127 else area.max())
        brightness[dark] = (int(np.median(shot)), ground, ink)
    assert brightness[False][0] > 200
    assert brightness[False][1] > 200 > 60 > brightness[False][2]
    assert brightness[True][0] < 60
    assert brightness[True][1] < 60 < 200 < brightness[True][2]


def test_everything_has_a_name_for_who_does_not_see_it(page):
    draw(page, 8)
    answer(page)
    nodes = page.call('Accessibility.getFullAXTree')['nodes']
    names: dict[str, list[str]] = {}
    for node in nodes:
        if not node['ignored']:
            names.setdefault(node['role']['value'], []).append(node['name']['value'])
    assert names['slider'] == [f'Number {number}' for number in range(1, 17)]
    assert names['meter'] == [f'Capsule {digit}' for digit in range(10)]
    assert names['button'] == ['Undo', 'Clear', 'Use a photograph', 'Two digits', 'Reset']
    assert names['application'] == ['Drawing area']
    assert sorted(names['image']) == ['The reconstruction', 'What the network sees']


def test_a_server_that_is_away_is_said_to_be_until_it_is_back(new_page, digits_url):
    page = new_page()
    page.show(*DESKTOP)
    open_demo(page, digits_url)
    page.wait_for('document.getElementById("served").textContent')
    network = {'latency': 0, 'downloadThroughput': -1, 'uploadThroughput': -1}
    page.call('Network.emulateNetworkConditions', offline=True, **network)
    draw(page, 7)
    said = page.wait_for('document.getElementById("trouble").textContent')
    host = digits_url.split('/')[2]
    assert said == f'The server at {host} does not answer. The page keeps trying.'
    assert page.evaluate('document.getElementById("trouble").checkVisibility()')
    page.call('Network.emulateNetworkConditions', offline=False, **network)
    page.wait_for('document.getElementById("trouble").hidden')
    assert answer(page)[0] == 7
    assert not [said for said in page.complaints if 'ERR_INTERNET_DISCONNECTED' not in said]


def test_the_page_links_the_card_of_a_model_that_has_one(new_page, page, digits_url):
    page.wait_for('!document.getElementById("has-card").hidden')
    page.evaluate('document.getElementById("card").click()')
    page.wait_for('document.title === "The card of digits"')
    other = new_page()
    open_demo(other, digits_url, '?model=undecoded')
    other.wait_for('document.getElementById("reconstructed").hidden')
    assert not is_shown(other, 'card')


def test_a_model_that_is_not_there_is_named(new_page, digits_url):
    page = new_page()
    open_demo(page, digits_url, '?model=n%C3%B6')
    said = page.wait_for('document.getElementById("trouble").textContent')
    assert said == 'The server has no model “nö” that it could ask. The page keeps trying.'


@pytest.mark.parametrize(
    ('model', 'title', 'bar'),
    [('undecoded', 'Capsule lengths', 'Capsule 0'), ('perceptron', 'Scores', 'Score of 0')],
)
def test_a_network_without_decoder_shows_its_scores_alone(new_page, digits_url, model, title, bar):
    page = new_page()
    page.show(*DESKTOP)
    open_demo(page, digits_url, f'?model={model}')
    page.wait_for('document.getElementById("served").textContent')
    shown = page.evaluate(
        '[...document.querySelectorAll("main h2")]'
        '.filter((title) => title.checkVisibility()).map((title) => title.innerText.trim())'
    )
    assert shown == ['Your digit', title]
    assert page.evaluate('document.querySelector(".bar").ariaLabel') == bar
    draw(page, 7)
    assert answer(page)[0] in range(10)
    assert opacity(page, '#seen').max() > 200
    assert page.complaints == []


def test_a_model_of_photographs_takes_a_picture_and_names_its_classes(
    new_page, digits_url, tmp_path
):
    page = new_page()
    page.show(*DESKTOP)
    open_demo(page, digits_url, '?model=photographs')
    page.wait_for('!document.body.classList.contains("strokes")')
    names = page.evaluate('[...document.querySelectorAll(".bar .name")].map((e) => e.textContent)')
    assert names == COLOUR_NAMES
    shown = page.evaluate('[...document.querySelectorAll("main")][0].innerText')
    assert 'Your picture' in shown
    assert 'Drop or choose a picture' in shown
    assert 'digit' not in page.evaluate('document.body.innerText')
    for name in ('drawing', 'undo', 'cursor'):
        assert not is_shown(page, name)
    image = np.zeros((40, 48, 3), np.uint8)
    image[:, :24] = 250, 10, 20
    image[:, 24:] = 5, 200, 90
    Image.fromarray(image).save(tmp_path / 'colours.png')
    page.choose('file', tmp_path / 'colours.png')
    page.wait_for('!!document.querySelector(".bar.wins")')
    page.wait_for('document.getElementById("lengths").ariaBusy === "false"')
    seen = painted(page, '#seen')
    np.testing.assert_array_equal(seen[..., :3], image[::2, ::2])
    assert (seen[..., 3] == 255).all()
    drawn = painted(page, '#reconstruction')
    assert drawn.shape == (20, 24, 4)
    assert np.ptp(drawn[..., :3].astype(int), axis=-1).max() > 0
    winner = page.evaluate('document.querySelector(".bar.wins .name").textContent')
    assert page.evaluate('document.getElementById("winner").textContent') == (
        f'capsule\u00a0{winner}'
    )
    assert page.evaluate('document.querySelectorAll("#sliders input:enabled").length') == 4
    assert page.complaints == []


@pytest.mark.slow
def test_a_new_version_answers_for_what_is_drawn_already(digits_url, tmp_path_factory, tmp_path):
    temporary = tmp_path_factory.getbasetemp()
    models = next(
        folder / 'digits'
        for folder in (temporary, temporary.parent)
        if (folder / 'digits').exists()
    )
    base = tmp_path / 'changing'
    shutil.copytree(models / 'digits' / '3', base / '1')
    flags = ['--model_name=digits', f'--model_base_path={base}', '--demo']
    with rest_server(*flags) as url, browser() as open_page:
        page = open_page()
        page.show(*DESKTOP)
        open_demo(page, url)
        draw(page, 7)
        winner, before = answer(page)
        assert winner == 7
        (other,) = (models / 'perceptron').iterdir()
        shutil.copytree(other, tmp_path / 'unfinished')
        (tmp_path / 'unfinished').rename(base / '2')
        page.wait_for(
            'document.getElementById("served").textContent.endsWith("version 2")', seconds=60
        )
        page.wait_for('!!document.querySelector(".bar.wins")')
        _, after = answer(page)
        assert after != before
        assert max(after) > 0
        assert page.evaluate('document.querySelector(".bar").ariaLabel') == 'Score of 0'
        assert page.complaints == []
