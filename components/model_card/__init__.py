"""ModelCard: what is known of a model, on one page for people and in one file for programs."""

from components.model_card.component import ModelCard

__all__ = ['ModelCard']
