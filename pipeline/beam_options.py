"""Apache Beam's options of the pipeline."""

from __future__ import annotations

from apache_beam.options.pipeline_options import PipelineOptions

# They run TFX's code in processes of this machine, with the packages of this one.
_LOCAL_RUNNERS = {'fnapirunner', 'bundlebaseddirectrunner'}
# What TFX takes for an answer to how its own code comes to Beam's workers.
_PACKAGING = (
    'extra_packages',
    'setup_file',
    'requirements_file',
    'worker_harness_container_image',
    'sdk_container_image',
)


def beam_options(beam_args: str) -> list[str]:
    """The options for each of the pipeline's Beam jobs.

    Where no option says how TFX comes to Beam's workers, TFX packs itself for each job and leaves
    49 MB in the temporary folder. Local workers have it already. Their runners do not look at the
    container image that is named here, so that it keeps TFX from packing, and does nothing else.

    Args:
        beam_args: What BEAM_ARGS holds: options with spaces between them.
    """
    options = beam_args.split()
    parsed = PipelineOptions(options).get_all_options()
    runner = (parsed['runner'] or '').rpartition('.')[2].lower()
    if runner in _LOCAL_RUNNERS and not any(parsed.get(name) for name in _PACKAGING):
        options.append('--sdk_container_image=none')
    return options
