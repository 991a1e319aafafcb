"""Puts messages into the queue in bursts: the shop whose customers the example serves."""

import itertools
import random
import time

import mail_queue


def main() -> None:
    """Until it is told to end."""
    for burst in itertools.count(1):
        size = random.randint(3, 20)
        with mail_queue.opened() as queue:
            mail_queue.put(queue, [f"customer{random.randint(1, 999)}@example.org" for _ in range(size)])
            left = mail_queue.waiting(queue)
        print(f"burst {burst}: {size} orders, {left} mails wait", flush=True)
        time.sleep(random.uniform(1, 4))


main()
