"""The claims that the study tests, a file for each."""

from study.claims import attacks, examples, iterations, overlap, viewpoint
from study.plan import Claim

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        iterations.CLAIM,
        examples.CLAIM,
        viewpoint.CLAIM,
        overlap.CLAIM,
        attacks.CLAIM,
    )
}
