"""Leaves what this line of TFX writes, for the tests of another line to read.

    python tests/support/line_results.py FOLDER

FOLDER, which is made again, has in the end: `var`, of the preset `tiny` from data to pushed model;
`answers.npz`, what that model answers to test images; `training`, a small training with its
checkpoints, and `weights.npz`, what it came to; `versions.json`, those of the packages.
"""

import importlib.metadata
import json
import pathlib
import shutil
import sys
import warnings

from project_paths import ROOT

_PACKAGES = ('keras', 'ml-metadata', 'numpy', 'protobuf', 'tensorflow', 'tfx')


def answers(model, images):
    """The numbers that a SavedModel's signatures answer to images, by signature and output."""
    import tensorflow as tf

    pngs = [tf.io.encode_png(image[..., None]) for image in images]
    said = {
        'pixels': model.signatures['pixels'](pixels=tf.constant(images)),
        'explain': model.signatures['explain'](image_bytes=tf.stack(pngs)),
    }
    return {
        f'{signature}.{name}': value.numpy()
        for signature, answer in said.items()
        for name, value in answer.items()
        if value.dtype != tf.string
    }


def weights(checkpoints):
    """The weights in the last state of a training, by their names in it."""
    import tensorflow as tf

    last = max(checkpoints.folder.glob('step-*'))
    reader = tf.train.load_checkpoint(str(last / 'variables'))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith('weights/') and name.endswith('VARIABLE_VALUE')
    }


def images(data_dir):
    """Genuine ones that no training sees, of the MNIST that is prepared in a folder."""
    import tensorflow_datasets as tfds

    return tfds.as_numpy(tfds.load('mnist', split='test[:100]', data_dir=data_dir, batch_size=-1))[
        'image'
    ][..., 0]


def write(folder, data_dir):
    """Writes all of it, from the MNIST that is prepared in a folder."""
    import numpy as np
    import tensorflow as tf
    import training_request
    from tfx_project import Project

    from capsmodel.training import launcher

    shutil.rmtree(folder, ignore_errors=True)
    (folder / 'var').mkdir(parents=True)
    (folder / 'training').mkdir()
    (folder / 'var' / 'data').symlink_to(data_dir)
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    (folder / 'versions.json').write_text(json.dumps(versions))
    print(
        f'Running the pipeline with TFX {versions["tfx"]} for the other line to read ...',
        flush=True,
    )
    project = Project(ROOT, folder / 'var')
    done = project.run()
    if done.returncode:
        sys.exit(done.stderr)
    (version,) = project.versions()
    pushed = f'{project.config.serving_model_dir}/{version}'
    # The model gets no name here. `google.cloud.bigquery`, which `project.run` imported, keeps this
    # frame in an exception until Python ends, and the model's protos would outlive their library.
    np.savez(folder / 'answers.npz', **answers(tf.saved_model.load(pushed), images(data_dir)))

    request = training_request.write(folder / 'training')
    request.write(folder / 'training' / 'request.json')
    np.savez(folder / 'weights.npz', **weights(launcher.train(request)))


if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))
    import start_tensorflow
    from components.datasets.prepare import prepare

    warnings.simplefilter('ignore')
    start_tensorflow.hide_gpus()
    start_tensorflow.load()
    prepared = str(ROOT / 'var' / 'data')
    prepare('mnist', prepared)
    write(pathlib.Path(sys.argv[1]).absolute(), prepared)
