"""The type of a U-Net in annotations."""

from __future__ import annotations

from typing import Any, TypeAlias

UNet: TypeAlias = Any
"""A diffusers `UNet2DConditionModel`, or a network of its form. Type checkers see none of the methods that its mixins add at run time."""
