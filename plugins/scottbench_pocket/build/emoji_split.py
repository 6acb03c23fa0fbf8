"""Which pairs are held out: exactly 5,000, most of them not variants, every concept left in training."""

import hashlib
from collections import Counter

EVALUATION_ITEMS = 5000
VARIANT_SHARE = 0.4

_SKIN_TONES = {"1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff"}
_TONES_BETWEEN = {"1f3fc", "1f3fe"}
_GENDER_SIGNS = {"2640", "2642"}
_ADULTS = {"1f468", "1f469"}


def variant(sequence: str) -> str:
    """`skin-tone`, `gender` or `none` for a code point sequence ("1f469-200d-1f373" -> "gender").

    Gender: a joined (ZWJ) sequence with a female or male sign, or one that starts with man or woman; such a
    form has a neutral form beside it. The single code points man and woman are concepts of their own.
    """
    parts = sequence.split("-")
    if _SKIN_TONES & set(parts):
        return "skin-tone"
    joined = "200d" in parts
    return "gender" if joined and (_GENDER_SIGNS & set(parts) or parts[0] in _ADULTS) else "none"


def belongs(sequence: str) -> bool:
    """Tell whether a code point sequence takes part: it has at most one skin tone, and that is light, medium or dark.

    At 64x64 the two tones between hardly differ from their neighbours: a held-out picture would be in training
    all but for a shade. The same holds for pairs of people in two tones (380 each in noto and twemoji).
    """
    tones = _SKIN_TONES & set(sequence.split("-"))
    return len(tones) < 2 and not tones & _TONES_BETWEEN


def quotas(sizes: dict, total: int) -> dict:
    """`total` shared out in proportion to `sizes` (largest remainder, ties by key)."""
    everything = sum(sizes.values())
    shares = {key: total * size / everything for key, size in sizes.items()}
    result = {key: int(share) for key, share in shares.items()}
    by_remainder = sorted(shares, key=lambda key: (result[key] - shares[key], key))
    for key in by_remainder[: total - sum(result.values())]:
        result[key] += 1
    return result


def evaluation_ids(items: list[dict], total: int = EVALUATION_ITEMS) -> set[str]:
    """The ids to hold out, a fixed function of the items (each with id, family, concept and variant).

    Items are taken in the order of sha256("emoji5k:" + id), in proportion to the families, until variants
    reach 40 % of `total`; one that would take the last picture of its concept out of training is passed over.
    """
    variants = int(total * VARIANT_SHARE)
    left = {}
    for is_variant, share in ((False, total - variants), (True, variants)):
        sizes = Counter(i["family"] for i in items if (i["variant"] != "none") == is_variant)
        left.update({(f, is_variant): n for f, n in quotas(sizes, share).items()})
    in_training = Counter(item["concept"] for item in items)
    held = set()
    for item in sorted(items, key=lambda i: hashlib.sha256(b"emoji5k:" + i["id"].encode()).digest()):
        cell = (item["family"], item["variant"] != "none")
        if left[cell] and in_training[item["concept"]] > 1:
            left[cell] -= 1
            in_training[item["concept"]] -= 1
            held.add(item["id"])
    assert len(held) == total, f"only {len(held)} of {total} items can be held out: {left}"
    return held
