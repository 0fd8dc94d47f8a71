"""Names that the platform makes up: calm-river-12345, and inference-acute-10001 for an add-on."""

import secrets

_ADJECTIVES = (
    "acute", "amber", "autumn", "bold", "brave", "bright", "brisk", "calm", "clear", "cold",
    "concave", "cool", "crisp", "curly", "damp", "dawn", "deep", "dry", "early", "fierce", "flat",
    "fluffy", "fresh", "frosty", "gentle", "glad", "golden", "grand", "green", "hidden", "icy",
    "keen", "late", "lively", "loud", "lucky", "mellow", "misty", "mossy", "noble", "obtuse",
    "plain", "polished", "proud", "quiet", "rapid", "rough", "round", "rugged", "sharp", "shallow",
    "shy", "silent", "slow", "smooth", "snowy", "soft", "solid", "sparkling", "spring", "square",
    "still", "summer", "sunny", "tall", "tidy", "vast", "warm", "wild", "winter", "wise", "young",
)  # fmt: skip

_NOUNS = (
    "bay", "beach", "bird", "brook", "bush", "canyon", "cliff", "cloud", "creek", "dawn", "dew",
    "dream", "dust", "falls", "fern", "field", "fire", "fjord", "flower", "fog", "forest", "frost",
    "glade", "grass", "harbor", "haze", "hill", "island", "lake", "leaf", "meadow", "mist", "moon",
    "mountain", "oasis", "ocean", "peak", "pine", "plain", "pond", "prairie", "rain", "reef",
    "ridge", "river", "sea", "shadow", "shore", "sky", "smoke", "snow", "spring", "star", "stone",
    "stream", "sun", "surf", "thunder", "tree", "valley", "water", "wave", "wind", "wood",
)  # fmt: skip


def app_name() -> str:
    return f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{_five_digits()}"


def addon_name(service_name: str) -> str:
    """`heroku-inference` is short for itself without `heroku-`."""
    short = service_name.removeprefix("heroku-")
    return f"{short}-{secrets.choice(_ADJECTIVES)}-{_five_digits()}"


def _five_digits() -> int:
    return 10_000 + secrets.randbelow(90_000)
