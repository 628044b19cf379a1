"""Logistic regression on secret shares with MPyC: a bank, a partner and a third party that holds no data.

Run by ``benchmarks.peers`` in an environment of its own: ``python mpyc_logistic.py -M3 FOLDER OUT WORKSPACE``. Shamir
shares with a threshold of one among three parties; Nesterov's gradient over all rows, the sigmoid as a cubic
polynomial. Only the hold-out's scores are opened, to the bank.
"""
# mypy: ignore-errors

import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
from mpyc.runtime import mpc

BANK, PARTNER = 0, 1
STEPS, RATE, MOMENTUM, RIDGE = 30, 0.5, 0.9, 0.01
# Beyond it the polynomial falls again, and a single row could drive the weights off.
BOUND = 3.0


def read(path):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    columns = [name for name in rows[0] if name.startswith("x")]
    values = np.clip([[float(row[name]) for name in columns] for row in rows], -BOUND, BOUND)
    test = np.array([row["test"] == "1" for row in rows])
    label = np.array([float(row.get("y", 0)) for row in rows])
    return values, test, label


def shared(number, values, owner):
    """Share a matrix that one party holds; the others know its shape."""
    own = values if mpc.pid == owner else np.zeros(values.shape)
    # Said, not found: whole numbers at one party and not at another would part their programs.
    return mpc.input(number.array(own, integral=False), senders=owner)


async def main():
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    # Both files stand in one order: MPyC brings no alignment, so the ids were matched in the open before.
    bank, test, label = read(folder / "bank.csv")
    partner, _, _ = read(folder / "partner_aligned.csv")
    bank = np.hstack([bank, np.ones((len(bank), 1))])
    await mpc.start()
    began = time.monotonic()
    number = mpc.SecFxp(48, 16)
    x = mpc.np_hstack((shared(number, bank[~test], BANK), shared(number, partner[~test], PARTNER)))
    y = shared(number, label[~test].reshape(-1, 1), BANK)
    rows, width = int((~test).sum()), bank.shape[1] + partner.shape[1]
    transposed = mpc.np_transpose(x)
    weights = ahead = number.array(np.zeros((width, 1)))
    for _ in range(STEPS):
        z = x @ ahead
        predicted = z * (0.197 - 0.004 * (z * z)) + 0.5
        # Divided in two steps: 1 / rows alone has few of the 16 fractional bits.
        total = (transposed @ (predicted - y)) * (1 / 64)
        gradient = total * (64 / rows) + ahead * RIDGE
        before, weights = weights, ahead - gradient * RATE
        ahead = weights + (weights - before) * MOMENTUM
        await mpc.gather(weights)  # a step at a time, or all steps' shares wait in memory
    hold = mpc.np_hstack((shared(number, bank[test], BANK), shared(number, partner[test], PARTNER)))
    scores = await mpc.output(hold @ weights, receivers=BANK)
    if mpc.pid == BANK:
        found = {
            "seconds": time.monotonic() - began,
            "scores": [float(one) for one in np.asarray(scores).ravel()],
            "steps": STEPS,
        }
        out.write_text(json.dumps(found))
    await mpc.shutdown()


mpc.run(main())
