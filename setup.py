"""The package: what Beam workers and container images install."""

import setuptools

setuptools.setup(
    name='capsnet-tfx',
    version='0.1.0',
    description='Capsule Networks with dynamic routing, trained and served by a TFX pipeline',
    python_requires='>=3.10,<3.14',
    py_modules=['start_tensorflow'],
    packages=setuptools.find_packages(
        include=[
            *('capsmodel', 'capsmodel.*', 'components', 'components.*'),
            *('pipeline', 'pipeline.*', 'serving', 'serving.*'),
        ]
    ),
    package_data={
        'pipeline': ['schema/*.pbtxt'],
        'serving': ['config/*.config', 'config/*.proto', 'config/*.yml', 'demo/*'],
    },
    install_requires=[
        'tfx>=1.16,<1.22,!=1.17.*,!=1.18.*,!=1.19.*,!=1.20.*',
        'aiohttp',
        'async-timeout',
        'apache-beam',
        'dill',
        'keras-tuner',
        'orjson',
        'pillow>=10.1',
        'prometheus-client',
        'setuptools<81',
        'tensorboard',
        'tensorflow-datasets',
        'tensorflow-serving-api',
        'tqdm',
    ],
    extras_require={
        # TFX's own extra of this name is empty from Python 3.12 on.
        'kfp': ['tfx[kfp]', 'kfp', 'kfp-kubernetes', 'pyyaml'],
        'test': [
            *('hypothesis', 'mypy', 'psutil', 'pytest', 'pytest-xdist', 'ruff'),
            'websocket-client',
        ],
    },
)
