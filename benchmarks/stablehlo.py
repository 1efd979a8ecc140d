"""Programs of `benchmarks.cost` in a portable form that any JAX runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export


def as_function(
    artifact: bytes, inputs: Sequence[jax.ShapeDtypeStruct], outputs: Sequence[jax.ShapeDtypeStruct]
) -> Callable[..., tuple[Any, ...]]:
    """Returns a function of arrays that runs a program's `main`.

    Args:
        artifact: The program, a portable artifact of StableHLO.
        inputs: The inputs of `main`.
        outputs: The outputs of `main`.
    """

    def same_signature(*_: Any) -> tuple[Any, ...]:
        return tuple(jnp.zeros(output.shape, output.dtype) for output in outputs)

    # JAX reads a serialized `Exported` for half a year only. So this JAX makes one itself, and the
    # program in it is replaced.
    exported = export.export(jax.jit(same_signature, keep_unused=True))(*inputs)
    any_platform = (export.DisabledSafetyCheck.platform(),)
    return dataclasses.replace(
        exported, mlir_module_serialized=artifact, disabled_safety_checks=any_platform
    ).call


def signature(values: Sequence[dict[str, Any]]) -> list[jax.ShapeDtypeStruct]:
    """The inputs or outputs in `index.json` as JAX describes them."""
    return [jax.ShapeDtypeStruct(value['shape'], value['dtype']) for value in values]
