"""Functions that tests have derive images."""


def label_of(image, label, identifier, settings):
    return label
