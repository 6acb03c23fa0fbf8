"""Frechet distance beside clean-fid's on the same features in one process: `python tests/speed/beside_clean_fid.py` (a minute or two)."""

from __future__ import annotations

from common import arguments, features, machine, report, seconds

from scottbench.metrics import GaussianFit, frechet_distance


def main() -> None:
    from cleanfid.fid import fid_from_feats

    asked = arguments(__doc__, 5000)
    real, generated = features(asked.n, asked.d, 0), features(asked.n, asked.d, 1)
    print(f"{machine()}; n = {asked.n}, d = {asked.d}")
    frechet_distance(real[:64, :16], generated[:64, :16])  # libraries loaded
    ours, theirs = frechet_distance(real, generated).value, fid_from_feats(real, generated)
    # clean-fid takes the mean of float32 features in float32; on float64 ones the two agree (tests/metrics/test_frechet_distance.py)
    print(f"values {ours:.12g} and {theirs:.12g}: relative difference {abs(ours - theirs) / theirs:.1e}")
    peer = seconds(lambda: fid_from_feats(real, generated), 1)
    report("first method against a reference", seconds(lambda: frechet_distance(real, generated), asked.repeat), peer, "clean-fid", 8)
    fit = GaussianFit.of(real)
    frechet_distance(fit, generated)
    report("second method against it", seconds(lambda: frechet_distance(fit, generated), asked.repeat), peer, "clean-fid", 15)


if __name__ == "__main__":
    main()
