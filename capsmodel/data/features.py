"""The names of the features, raw and transformed."""

IMAGE = 'image'
LABEL = 'label'
ID = 'id'
# Of test images: 'plain', or the kind of picture that one is drawn again as.
KIND = 'kind'
