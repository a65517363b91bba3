"""What a recipe learns from: pairs, photographs shaken on the fly, or both."""

from __future__ import annotations

from mimo.learning.crops import Crops, Mixture, Pictures, Source
from mimo.learning.datasets import Pair, Photograph, open_pairs, open_photographs, training_pairs, validation_pairs
from mimo.learning.recipe import Recipe
from mimo.learning.shaken import ShakenCrops


def learnt_pictures(recipe: Recipe) -> tuple[tuple[Pair, ...], tuple[Photograph, ...]]:
    """Pairs and photographs to learn from; nothing is decoded. Raises :class:`~mimo.errors.DataError`."""
    pairs = tuple(pair for folder in recipe.data for pair in training_pairs(folder))
    return pairs, tuple(photograph for folder in recipe.photographs for photograph in open_photographs(folder))


def validation_of(recipe: Recipe) -> tuple[Pair, ...]:
    """The pairs to validate on: ``recipe.validation`` or ``val/`` of each dataset. Raises :class:`~mimo.errors.DataError`."""
    if recipe.validation is not None:
        return open_pairs(recipe.validation)
    return tuple(pair for folder in dict.fromkeys(recipe.data) for pair in validation_pairs(folder))


def source_of(recipe: Recipe, pictures: Pictures, pairs: int, photographs: int) -> Source:
    """What a run learns from: the first ``pairs`` of ``pictures``, the ``photographs`` after them shaken, or both."""
    patch, augment, seed = recipe.patch_size, recipe.augment, recipe.seed
    real = Crops(pictures, patch=patch, augment=augment, seed=seed, pairs=pairs)
    if not photographs:
        return real
    places = range(pairs, pairs + photographs)
    shaken = ShakenCrops(pictures, places, patch=patch, shake=recipe.shake, sharp=recipe.sharp_part, augment=augment, seed=seed)
    return Mixture(real, shaken, recipe.real_part) if pairs else shaken
