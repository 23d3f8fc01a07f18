"""Writes 4 million key numbers below 100,000 of a zipf distribution (s = 1), the same on every machine: `zipf.py FILE`."""
import array, bisect, itertools, random, sys

KEYS, DRAWS = 100_000, 4_000_000
chance = random.Random(7)
sums = list(itertools.accumulate(1.0 / rank for rank in range(1, KEYS + 1)))
order = list(range(KEYS))
chance.shuffle(order)
drawn = array.array("I", (order[bisect.bisect_left(sums, chance.random() * sums[-1])] for _ in range(DRAWS)))
with open(sys.argv[1], "wb") as file:
    drawn.tofile(file)
