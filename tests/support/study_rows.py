"""Rows of results.csv as they would be if every training of a claim came out as a function says."""

from study.results import Row


def rows_of(claim, seeds, error):
    """The rows of a claim.

    Args:
        claim: The claim.
        seeds: How many seeds are trained.
        error: From a training and the name of a test to the error in per cent.
    """
    return [
        Row(
            claim=claim.name,
            network=training.network,
            recipe=training.recipe,
            condition=training.row_condition(test),
            seed=training.seed,
            epochs=1,
            steps=training.steps,
            test_error_percent=error(training, test),
            seconds=None if number else 60.0,
            commit='0123abc',
            command=f'make study CLAIM={claim.name}',
            cpu_seconds=None if number else 110.0,
        )
        for training in claim.trainings(seeds)
        for number, test in enumerate(training.tests)
    ]
