"""The names of the features, raw and transformed."""

IMAGE = 'image'
LABEL = 'label'
ID = 'id'
