"""Test images drawn again as the pictures that people take."""

from components.picture_kinds.component import PictureKinds

__all__ = ['PictureKinds']
