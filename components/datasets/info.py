"""What is known of a dataset of images when the pipeline is built, wherever the images lie."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class ImageDatasetInfo:
    """The facts that the schema, the network and the signatures need."""

    height: int  # in pixels; 0 if the images have different heights
    width: int  # likewise
    channels: int  # 1 if all images are grey, else 3
    class_names: tuple[str, ...]  # the name of each label, from 0 on

    @property
    def num_classes(self) -> int:
        """Labels are 0 to num_classes - 1."""
        return len(self.class_names)
