"""The TFX component that writes the card of a model."""

import json

from tfx import v1 as tfx
from tfx.types.experimental.simple_artifacts import File
from tfx.utils import import_utils, io_utils, path_utils

from components.local_copy import on_this_machine
from components.model_card import asked, curve, data, evaluated, exported, files, page, words


@tfx.dsl.components.component
def ModelCard(  # noqa: N802 (a component is named like a class)
    model: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Model],
    model_run: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelRun],
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    evaluation: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelEvaluation],
    blessing: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.ModelBlessing],
    card: tfx.dsl.components.OutputArtifact[File],
    settings: tfx.dsl.components.Parameter[str],
    reliability: tfx.dsl.components.Parameter[str],
    hyperparameters: tfx.dsl.components.InputArtifact[
        tfx.types.standard_artifacts.HyperParameters
    ] = None,
    most_images: tfx.dsl.components.Parameter[int] = asked.MOST_IMAGES,
    code_version: tfx.dsl.components.Parameter[str] = '',
) -> None:
    """Writes what is known of a model, blessed or not: a page, and the same facts as JSON.

    It asks the model about test images, since the Evaluator keeps no single answer. The same inputs
    give the same files.

    Args:
        model: The Trainer's model.
        model_run: The Trainer's log for TensorBoard.
        examples: The raw examples, with the split `test`.
        evaluation: The Evaluator's evaluation.
        blessing: The Evaluator's blessing.
        card: A folder with the page and the JSON file, see `files`. It is of a type that TFX has:
            Vertex AI knows no others without a package of their name.
        settings: A JSON object with `pipeline`, its name; `settings`, those in force by name;
            `command`, which runs the pipeline with them; and `code`, the version of the Trainer's.
        reliability: Dotted path of the class whose `of` puts answers into bins, see
            `asked.Reliability`.
        hyperparameters: The Tuner's, if it chose some.
        most_images: How many test images the model is asked about at most.
        code_version: Version of this code; part of the cache key.
    """
    with on_this_machine(path_utils.serving_model_path(model.uri)) as model_dir:
        of_model = exported.read(model_dir)
        names = of_model['class_names']
        answers = asked.ask(
            model_dir,
            data.files(examples, 'test'),
            names,
            import_utils.import_class_by_path(reliability).of,
            most_images,
        )
    given = json.loads(settings)
    tuned = {}
    if hyperparameters is not None:
        path = io_utils.get_only_uri_in_dir(hyperparameters.uri)
        tuned = json.loads(io_utils.read_string_file(path))['values']
    facts = {
        'pipeline': given['pipeline'],
        'model': {
            **of_model,
            'trained': exported.day(model.mlmd_artifact.create_time_since_epoch),
            'tfx': model.get_string_custom_property('tfx_version'),
            'code': given['code'],
        },
        'settings': given['settings'],
        'tuned': tuned,
        'data': data.read(examples, names),
        'curves': curve.read(model_run.uri),
        'evaluation': evaluated.read(evaluation.uri, blessing, names),
        'asked': answers,
        'reproduce': given['command'],
    }
    facts['use'] = words.of(facts)
    text = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    files.write(card.uri, page.of(facts), text + '\n')
