"""Groups of settings: declared once, filled by name, refused in one sentence."""

import dataclasses

import pytest
from pydantic import ValidationError
from pydantic.dataclasses import dataclass

from capsmodel import settings
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.settings import STRICT, Numbers, Settings, setting
from capsmodel.training.settings import TrainingConfig
from pipeline import configs
from pipeline.settings import Config


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Oven(Settings):
    degrees: int = setting(180, 'Celsius', at_least=0, at_most=300)
    air: str = setting('still', 'how it moves', choices=('still', 'moving'))
    minutes: Numbers = setting((20, 5), 'covered and open')


@dataclass(frozen=True, config=STRICT)
class _Bread(_Oven):
    flour: str


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'degrees': 'hot'}, "DEGREES is 'hot': it must be a whole number"),
        ({'degrees': 301}, 'DEGREES is 301: it must be at most 300'),
        ({'air': 'hot'}, "AIR is 'hot': it must be one of still, moving"),
        ({'minutes': '20,0'}, "MINUTES is '0': it must be at least 1"),
        ({'flour': 3}, 'FLOUR is 3: it must be text'),
        ({'degree': 3}, 'there is no setting DEGREE'),
        ({'flour': None}, 'FLOUR is None: it must be text'),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence(changes, sentence):
    with pytest.raises(ValidationError) as caught:
        _Bread(**{'flour': 'rye', **changes})
    assert settings.refusal(caught.value) == sentence


def test_text_is_read_as_what_the_field_holds():
    bread = _Bread('rye', degrees='200', minutes='3,4')
    assert (bread.degrees, bread.minutes) == (200, (3, 4))
    with pytest.raises(ValidationError):
        dataclasses.replace(bread, degrees=-1)


def test_a_group_is_filled_by_name():
    bread = _Bread('rye', degrees=210)
    assert settings.filled(_Oven, bread) == _Oven(degrees=210)
    assert settings.filled(_Bread, _Oven(degrees=90), flour='oat') == _Bread('oat', degrees=90)
    with pytest.raises(ValueError, match=r"^AIR is 'hot': it must be one of still, moving$"):
        settings.filled(_Oven, bread, air='hot')


def test_what_is_declared_can_be_asked():
    declared = settings.declared(_Bread)
    assert list(declared) == ['degrees', 'air', 'minutes', 'flour']
    assert (declared['degrees'].default, declared['degrees'].description) == (180, 'Celsius')
    assert settings.choices(declared['air']) == ('still', 'moving')
    assert settings.choices(declared['degrees']) == settings.choices(declared['flour']) == ()


def test_every_setting_reaches_what_it_is_for():
    config = configs.from_preset('quick', digit_dim=12, ema_decay=0.5, image_height=30)
    network = settings.filled(CapsNetConfig, config, image_width=28, num_classes=4)
    assert (network.digit_dim, network.image_height, network.image_width) == (12, 30, 28)
    assert settings.filled(TrainingConfig, config).ema_decay == 0.5
    assert all(field.description for field in settings.declared(Config).values())
