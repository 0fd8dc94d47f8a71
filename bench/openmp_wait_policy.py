"""What OpenMP threads that wait by spinning cost: `.venv/bin/python -m bench.openmp_wait_policy`.

Runs the encoder over the same random texts in fresh processes, active and passive in turn, alone
and beside one process that keeps a core busy. Compare within one run only.
"""

import os
import statistics
import subprocess
import sys

ROUNDS = 5
PROGRAM = """
import time, numpy as np
from inference.catalogue import get_model
from inference.engine import Encoder
rng = np.random.default_rng(0)
texts = [rng.integers(1000, 20000, n).astype(np.int32) for n in rng.integers(8, 256, 60)]
encoder = Encoder(get_model("all-minilm-l6-v2").path)
encoder.encode(texts[:5])
started = time.perf_counter()
encoder.encode(texts)
print(sum(map(len, texts)) / (time.perf_counter() - started))
"""
BUSY = "while True: pass"
# The catalogue reads Django's settings, which want these; nothing connects to them.
UNUSED = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "SECRET_KEY": "unused",
    "ENCRYPTION_KEYS": "unused",
    "PROVIDER_PASSWORD": "unused",
    "DATABASE_URL": "postgresql:///unused",
    "REDIS_URL": "redis://unused",
}


def tokens_per_second(policy: str) -> float:
    env = {**os.environ, **UNUSED, "OMP_WAIT_POLICY": policy}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def compare(title: str) -> None:
    found: dict[str, list[float]] = {"active": [], "passive": []}
    for _ in range(ROUNDS):
        for policy, rates in found.items():
            rates.append(tokens_per_second(policy))
    active, passive = (statistics.median(rates) for rates in found.values())
    ratio = passive / active
    print(f"{title}: active {active:,.0f}, passive {passive:,.0f} tokens/s, ratio {ratio:.2f}")


def main() -> None:
    compare("alone")
    busy = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        compare("beside a busy core")
    finally:
        busy.kill()
        busy.wait()


if __name__ == "__main__":
    main()
