"""KID: the unbiased squared MMD of a cubic kernel between image features (Binkowski et al. 2018)."""

from __future__ import annotations

from scottbench import CellFeatures, Influence
from scottbench.metrics import BadFeatures, KernelSums, kernel_distance, kernel_influence, kernel_sums
from scottbench.metrics.kernel import distance_of
from scottbench_metrics.options import KernelOptions

KEY = ("scottbench_metrics.kid", "image")


def kid(cell: CellFeatures, options: KernelOptions) -> float:
    """Compute the kernel distance of the cell's image features to the reference's; it is unbiased and may be negative."""
    if options.subsets == 0:
        return options.scale * distance_of(sums(cell))
    found = kernel_distance(
        cell.reference["image"], cell.generated["image"], subsets=options.subsets, subset_size=options.subset_size, seed=options.seed
    )
    return options.scale * found.value


def influence(cell: CellFeatures, options: KernelOptions) -> Influence:
    """Compute the influence of every image. Raises BadFeatures for a mean over random subsets, which has none."""
    if options.subsets:
        raise BadFeatures(f"kid over {options.subsets} random subsets has no influence of single images. Use subsets=0.")
    found = kernel_influence(cell.reference["image"], cell.generated["image"], sums=sums(cell))
    return Influence(options.scale * found.generated, None if found.reference is None else options.scale * found.reference)


def sums(cell: CellFeatures) -> KernelSums:
    """Sum the kernel over all pairs; the sums within the reference are made once per run."""
    if KEY not in cell.memo:
        found = kernel_sums(cell.reference["image"], cell.generated["image"], within_real=cell.reference_memo.get(KEY))
        cell.reference_memo[KEY], cell.memo[KEY] = found.within_real, found
    return cell.memo[KEY]
