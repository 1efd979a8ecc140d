"""Asks a SavedModel in a process that has TensorFlow alone.

    python -I ask_saved_model.py MODEL QUESTIONS.npz ANSWERS.npz

Questions are named SIGNATURE/INPUT and answers SIGNATURE/OUTPUT.
"""

import sys

import numpy as np
import tensorflow as tf

_, folder, asked, answered = sys.argv
model = tf.saved_model.load(folder)
questions = np.load(asked, allow_pickle=True)
answers: dict[str, np.ndarray] = {}
for signature in sorted({key.split('/')[0] for key in questions}):
    ask = model.signatures[signature]
    inputs = {
        name: tf.constant(questions[f'{signature}/{name}'].tolist(), spec.dtype)
        for name, spec in ask.structured_input_signature[1].items()
    }
    answers |= {f'{signature}/{name}': value.numpy() for name, value in ask(**inputs).items()}
assert not {'capsmodel', 'components', 'pipeline', 'serving'} & sys.modules.keys()
np.savez(answered, **answers)
