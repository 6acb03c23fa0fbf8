"""Frechet distance between crops of images (patch FID): the Gaussians are fitted to all crops, the items stay the images.

Papers on few-step models of 1024 pixels take it beside FID, whose resizing to 299 pixels hides fine detail (Lin et al. 2024; Yin et al.
2024).
"""

from __future__ import annotations

import numpy as np

from scottbench.metrics.checks import BadFeatures, feature_matrix
from scottbench.metrics.frechet import FrechetDistance, GaussianFit, frechet_distance
from scottbench.metrics.frechet_derivative import frechet_influence
from scottbench.registry.nouns import Influence


def patch_distance(real: np.ndarray, generated: np.ndarray) -> FrechetDistance:
    """Compute the squared Frechet distance between Gaussian fits of the crops of two sets of images.

    real, generated: (m, k, d) and (n, k, d) float features of k crops of every image. Warns and raises as `frechet_distance`.
    """
    return frechet_distance(patch_fit(real, "reference"), patch_fit(generated, "generated"))


def patch_influence(real: np.ndarray, generated: np.ndarray) -> Influence:
    """Compute the influence of every image on the `patch_distance`: the mean over its crops' influences.

    real, generated: (m, k, d) and (n, k, d) float features of k crops of every image. Crops of one image depend on each other; intervals
    rest on images. Raises as `frechet_influence`.
    """
    return of_images(frechet_influence(patch_fit(real, "reference"), patch_fit(generated, "generated")), len(real), len(generated))


def patch_fit(features: np.ndarray, what: str) -> GaussianFit:
    """Fit a Gaussian to (n, k, d) features of k crops of n images, or to (n, d) of one each. what: the word for them in a message.

    Raises BadFeatures for fewer than two images, NaN or infinite values, and arrays of another form.
    """
    features = np.asarray(features)
    if features.ndim == 2:  # one view of each image
        features = features[:, None]
    if features.ndim != 3 or not features.shape[1]:
        raise BadFeatures(f"{what} features have shape {features.shape}; expected (images, crops, dimensions), of a resize rule of crops.")
    feature_matrix(features.reshape(len(features), features.shape[1] * features.shape[2]), what)
    return GaussianFit.of(features.reshape(-1, features.shape[2]), what)


def of_images(crops: Influence, m: int, n: int) -> Influence:
    """Average the influences of all crops, image by image, to those of m real and n generated images."""
    reference = None if crops.reference is None else crops.reference.reshape(m, -1).mean(axis=1)
    return Influence(crops.generated.reshape(n, -1).mean(axis=1), reference)
