"""Writes the records that every measurement uses: items.py FILE

100,000 messages of one item each, one JSON object a line; exactly 15 % break one of the six rules,
evenly. The seed is fixed, so the file is the same everywhere: its SHA-256 begins with
f297f3294f896567. Needs nothing but Python 3.
"""

import json
import random
import sys

COUNT = 100_000
FIRST_MS = 1_749_315_600_000
FAMILY = ["Nguyen", "Tran", "Le", "Pham", "Hoang", "Phan", "Vu", "Dang", "Bui", "Do"]
GIVEN = ["Van A", "Thi B", "Minh", "Anh Tuan", "Thu Ha", "Quoc Bao", "Lan", "Hai", "Mai", "Duc"]
DIGITS = "0123456789"


def uuid7(ms, rng):
    """A UUIDv7 of that millisecond; the random bits are drawn in this order."""
    bits = ms << 80 | 7 << 76 | rng.getrandbits(12) << 64 | 2 << 62 | rng.getrandbits(62)
    text = f"{bits:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def record(rng):
    """A valid record; the order of the draws is part of the file."""
    return {
        "phone": "0" + "".join(rng.choices(DIGITS, k=rng.choice((9, 9, 9, 10)))),
        "bank_account": "".join(rng.choices(DIGITS, k=rng.randint(8, 14))),
        "email": f"user{rng.randint(1, 10**7)}@example{rng.randint(1, 99)}.com",
        "name": f"{rng.choice(FAMILY)} {rng.choice(GIVEN)}",
        "source": rng.choice(("extension", "importer", "web_crawler")),
    }


def spoil(item, rule):
    """Breaks one of the six rules: 100, 101, 200, 201, 300, 400."""
    if rule == 0:
        del item["phone"]
    elif rule == 1:
        item["phone"] = "012"
    elif rule == 2:
        del item["bank_account"]
    elif rule == 3:
        item["bank_account"] = "12345"
    elif rule == 4:
        item["email"] = "not-an-email"
    else:
        item["name"] = "X"


def messages():
    rng = random.Random(20250608)
    for number in range(COUNT):
        item = record(rng)
        if number % 20 in (3, 10, 17):
            spoil(item, number // 20 % 6)
        ms = FIRST_MS + number
        yield {
            "id": uuid7(ms, rng),
            "data": json.dumps(item, separators=(",", ":")),
            "source": item["source"],
            "timestamp": str(ms),
            "producer": "bench",
            "batch_id": f"batch_{number // 1000:03d}",
        }


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="ascii") as file:
        for message in messages():
            file.write(json.dumps(message, separators=(",", ":")) + "\n")
