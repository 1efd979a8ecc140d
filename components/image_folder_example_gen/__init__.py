"""ExampleGen for a folder of pictures with a sub-folder for each class."""

from components.image_folder_example_gen.component import ImageFolderExampleGen

__all__ = ['ImageFolderExampleGen']
