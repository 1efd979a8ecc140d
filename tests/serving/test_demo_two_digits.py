"""Two digits on top of each other, on the page at /demo in a real browser."""

import base64
import io
import json

import numpy as np
import pytest
from chromium import needs_chromium
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
    settle,
)
from PIL import Image
from rest_server import request

pytestmark = needs_chromium

FIRST, SECOND = '#apart figure:first-child canvas', '#apart figure:last-child canvas'


def _draw_two(page, one, other, hand='mouse'):
    draw(page, one, hand, left=-0.08, top=-0.05)
    draw(page, other, hand, left=0.08, top=0.05)


def _winners(page):
    """The names beside the bars that win, the first answer before the second; and the lengths."""
    _, lengths = answer(page)
    bars = '.bar.wins:not(.second) .name', '.bar.second .name'
    names = [
        page.evaluate(f'[...document.querySelectorAll("{bar}")].map((e) => e.textContent)')
        for bar in bars
    ]
    return [int(name) for some in names for name in some], lengths


def _are_highest(found, lengths):
    """Whether these are the two highest, in order; lengths that are shown may be alike."""
    return [lengths[label] for label in found] == sorted(lengths, reverse=True)[:2]


def _colour(page, name):
    """A colour of the style sheet, red, green and blue from 0 to 1."""
    text = page.evaluate(f'getComputedStyle(document.body).getPropertyValue("{name}")')
    return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)]) / 255


def _ask(digits_url, signature, inputs):
    body = json.dumps({'signature_name': signature, 'inputs': inputs}).encode()
    return json.loads(request('POST', f'{digits_url}:predict', body)[2])['outputs']


def test_the_two_highest_are_the_answer(page):
    draw(page, 0)
    assert _winners(page)[0] == [0]
    click(page, 'two')
    # No new look at the drawing is needed.
    found, lengths = _winners(page)
    assert _are_highest(found, lengths)
    assert found[0] == 0
    click(page, 'clear')
    assert _winners(page) == ([], [0] * 10)
    _draw_two(page, 0, 7)
    found, lengths = _winners(page)
    assert _are_highest(found, lengths)
    captions = '[...document.querySelectorAll("#apart figcaption")].map((e) => e.textContent)'
    assert page.evaluate(captions) == [str(label) for label in found]
    said = ', and '.join(f'{label}, length {lengths[label]:.2f}' for label in found)
    page.wait_for(f'document.getElementById("says").textContent === "{said}"')
    assert 'shown two at once' in page.evaluate('document.body.innerText')
    click(page, 'clear')
    assert _winners(page) == ([], [0] * 10)
    for canvas in (FIRST, SECOND, '#reconstruction'):
        assert not painted(page, canvas).any()


def test_each_is_redrawn_from_its_own_capsule(page, digits_url):
    click(page, 'two')
    _draw_two(page, 3, 0)
    found, lengths = _winners(page)
    png = io.BytesIO()
    Image.fromarray(opacity(page, '#seen')).save(png, 'PNG')
    image = {'b64': base64.b64encode(png.getvalue()).decode()}
    explained = _ask(digits_url, 'explain', {'image_bytes': [image]})
    np.testing.assert_allclose(explained['scores'][0], lengths, atol=0.006)
    capsules = [explained['capsules'][0][label] for label in found]
    expected = _ask(digits_url, 'decode', {'capsule': capsules, 'label': found})
    for canvas, picture in zip((FIRST, SECOND), expected, strict=True):
        np.testing.assert_allclose(opacity(page, canvas), 255 * np.array(picture), atol=2)
    # Otherwise the check could not tell one from the other.
    assert np.abs(np.subtract(*expected)).max() > 0.03


@pytest.mark.parametrize('becomes_dark', [False, True])
def test_two_colours_mix_where_both_have_ink(page, becomes_dark):
    click(page, 'two')
    _draw_two(page, 3, 0)
    settle(page)
    if becomes_dark:
        page.evaluate('window.light = document.getElementById("reconstruction").toDataURL()')
        page.show(*DESKTOP, dark=True)
        page.wait_for('document.getElementById("reconstruction").toDataURL() !== window.light')
    colours = _colour(page, '--accent'), _colour(page, '--second')
    layers = painted(page, FIRST) / 255, painted(page, SECOND) / 255
    for layer, colour in zip(layers, colours, strict=True):
        inked = layer[..., 3] > 0.15
        assert inked.any()
        np.testing.assert_allclose(
            layer[inked][:, :3], np.broadcast_to(colour, (inked.sum(), 3)), atol=0.03
        )
    # Compositing and Blending Level 1, section 5.1, with its formulas for multiply and screen.
    below, above = (layer[..., 3:] for layer in layers)
    one, other = colours
    mixed = one + other - one * other if becomes_dark else one * other
    ink = one * below * (1 - above) + other * above * (1 - below) + mixed * below * above
    both = painted(page, '#reconstruction') / 255
    np.testing.assert_allclose(both[..., :3] * both[..., 3:], ink, atol=0.02)
    np.testing.assert_allclose(both[..., 3:], below + above - below * above, atol=0.02)


def test_everything_has_a_name_for_who_does_not_see_it(page):
    click(page, 'two')
    _draw_two(page, 0, 8)
    settle(page)
    names: dict[str, list[str]] = {}
    for node in page.call('Accessibility.getFullAXTree')['nodes']:
        if not node['ignored']:
            names.setdefault(node['role']['value'], []).append(node['name']['value'])
    assert sorted(names['image']) == [
        'Both reconstructions, one on top of the other',
        'The reconstruction from the longest capsule',
        'The reconstruction from the second longest',
        'What the network sees',
    ]
    assert 'Two digits' in names['button']
    assert 'slider' not in names


def test_one_digit_again(page):
    draw(page, 2)
    settle(page)
    before = painted(page, '#reconstruction')
    click(page, 'two')
    settle(page)
    assert not np.array_equal(painted(page, '#reconstruction'), before)
    assert not is_shown(page, 'bend')
    click(page, 'two')
    assert _winners(page)[0] == [2]
    np.testing.assert_array_equal(painted(page, '#reconstruction'), before)
    assert is_shown(page, 'bend')
    assert not is_shown(page, 'apart')
    assert 'shown two at once' not in page.evaluate('document.body.innerText')


def test_two_digits_are_not_called_unknown(page, tmp_path):
    """The model can say that only of a picture of one."""
    Image.new('RGB', (64, 48), (90, 120, 200)).save(tmp_path / 'sky.png')
    page.choose('file', tmp_path / 'sky.png')
    page.wait_for('document.getElementById("unknown").checkVisibility()')
    click(page, 'two')
    assert not is_shown(page, 'unknown')
    page.wait_for('document.getElementById("says").textContent.includes(", and ")')
    assert not is_shown(page, 'unknown')
    click(page, 'two')
    page.wait_for('document.getElementById("unknown").checkVisibility()')


def test_by_keyboard(page):
    pressed = 'document.getElementById("two").ariaPressed'
    assert page.evaluate(pressed) == 'false'
    for _ in range(3):
        page.press('Tab')
    assert page.evaluate('document.activeElement.id') == 'two'
    page.press(' ')
    assert page.evaluate(pressed) == 'true'
    assert is_shown(page, 'apart')
    page.evaluate('document.getElementById("drawing").focus()')
    # A one, and a bar across it.
    page.press(' ')
    for _ in range(20):
        page.press('ArrowDown')
    page.press(' ')
    for _ in range(10):
        page.press('ArrowLeft')
    page.press(' ')
    for _ in range(20):
        page.press('ArrowRight')
    found, lengths = _winners(page)
    assert _are_highest(found, lengths)


def test_on_a_phone_by_finger(new_page, digits_url):
    page = new_page()
    page.show(*PHONE, phone=True, dark=True)
    open_demo(page, digits_url)
    page.wait_for('document.getElementById("served").textContent')
    page.touch(
        page.evaluate(
            '(({x, y, width, height}) => [[x + width / 2, y + height / 2]])'
            '(document.getElementById("two").getBoundingClientRect())'
        )
    )
    page.wait_for('document.getElementById("apart").checkVisibility()')
    _draw_two(page, 0, 1, hand='touch')
    found, lengths = _winners(page)
    assert _are_highest(found, lengths)
    width, scrolled = page.evaluate('[document.documentElement.scrollWidth, scrollY]')
    assert (width, scrolled) == (PHONE[0], 0)
    # Both pictures are in sight of the drawing, and the buttons take no third row.
    bottom = page.evaluate('document.getElementById("apart").getBoundingClientRect().bottom')
    assert bottom < PHONE[1]
    tops = '[...document.querySelectorAll("#choose, #take, #two")].map((e) => e.offsetTop)'
    assert len(set(page.evaluate(tops))) == 1
    assert page.complaints == []


@pytest.mark.parametrize(('model', 'score'), [('undecoded', 'length'), ('perceptron', 'score')])
def test_a_network_without_decoder_shows_its_two_highest_scores(new_page, digits_url, model, score):
    page = new_page()
    page.show(*DESKTOP)
    open_demo(page, digits_url, f'?model={model}')
    page.wait_for('document.getElementById("served").textContent')
    click(page, 'two')
    _draw_two(page, 0, 1)
    found, lengths = _winners(page)
    assert _are_highest(found, lengths)
    assert not is_shown(page, 'apart')
    page.wait_for(f'document.getElementById("says").textContent.startsWith("{found[0]}, {score} ")')
    assert page.complaints == []


def test_a_model_of_photographs_does_not_look_for_two(new_page, digits_url):
    page = new_page()
    page.show(*DESKTOP)
    # Whoever presses the button before it is known what the model reads.
    early = 'document.getElementById("two").click(); window.early = document.body.className'
    page.call(
        'Page.addScriptToEvaluateOnNewDocument',
        source=f'addEventListener("DOMContentLoaded", () => {{ {early}; }})',
    )
    open_demo(page, digits_url, '?model=photographs')
    page.wait_for('!document.body.classList.contains("strokes")')
    assert page.evaluate('window.early') == 'strokes capsules two'
    assert page.evaluate('document.body.className') == 'capsules'
    for name in ('two', 'apart'):
        assert not is_shown(page, name)
    assert is_shown(page, 'bend')
    assert page.complaints == []
