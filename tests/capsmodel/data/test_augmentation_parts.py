"""What AUGMENTATION says: parts in any order, each with its bound."""

import pytest

from capsmodel.data.augmentation_parts import normalized, parse

_LIST = (
    'must be none, or some of shift:PIXELS (whole), rotate:DEGREES (up to 180), '
    'scale:SHARE (up to 0.5), stroke:PIXELS (up to 3), contrast:SHARE (up to 1), flip, '
    'crop:PIXELS (whole), brightness:LEVELS (up to 255), each once and with commas between them; '
)


@pytest.mark.parametrize(
    ('text', 'amounts', 'spelled'),
    [
        ('shift:2', {'shift': 2}, 'shift:2'),
        ('flip, contrast:.20,shift:2', {'shift': 2, 'contrast': 0.2, 'flip': 1},
         'shift:2,contrast:0.2,flip'),
        ('brightness:63,crop:24', {'crop': 24, 'brightness': 63}, 'crop:24,brightness:63'),
        ('rotate:0,scale:0.125', {'scale': 0.125}, 'scale:0.125'),
        ('shift:0', {}, 'none'),
        ('none', {}, 'none'),
        ('', {}, 'none'),
    ],
)  # fmt: skip
def test_parts_may_be_in_any_order_and_have_one_spelling(text, amounts, spelled):
    assert parse(text) == amounts
    assert list(parse(text)) == list(amounts)
    assert normalized(text) == spelled
    assert parse(spelled) == amounts


@pytest.mark.parametrize(
    ('text', 'wrong'),
    [
        ('shift:2,turn:5', 'turn:5'), ('shift', 'shift'), ('shift:', 'shift:'),
        ('shift:1.5', 'shift:1.5'), ('shift:inf', 'shift:inf'), ('rotate:181', 'rotate:181'),
        ('rotate:nan', 'rotate:nan'), ('scale:0.6', 'scale:0.6'), ('stroke:-1', 'stroke:-1'),
        ('contrast:much', 'contrast:much'), ('flip:1', 'flip:1'), ('flip,shift:1,flip', 'flip'),
        ('crop:2.5', 'crop:2.5'), ('brightness:256', 'brightness:256'),
        ('shift:2,', ''), ('none,flip', 'none'), ('shift:2:3', 'shift:2:3'),
    ],
)  # fmt: skip
def test_another_text_is_refused_and_the_parts_are_listed(text, wrong):
    with pytest.raises(ValueError, match='must be none') as caught:
        parse(text)
    assert str(caught.value) == f'{_LIST}{wrong!r} does not fit'
