"""Takes one message from the queue, sends it, and exits: the shape of `queue:work --once`.

On an empty queue it waits a moment for a message before it exits, so that its restarts cost next to nothing.
"""

import time

import mail_queue

PATIENCE_SECONDS = 3.0
SENDING_SECONDS = 0.2


def main() -> None:
    """One message at most."""
    with mail_queue.opened() as queue:
        until = time.monotonic() + PATIENCE_SECONDS
        while (mail := mail_queue.take(queue)) is None:
            if time.monotonic() >= until:
                return
            time.sleep(0.1)
        number, address = mail
        time.sleep(SENDING_SECONDS)  # a mail server would take about as long
        mail_queue.done(queue, number)
        left = mail_queue.waiting(queue)
    print(f"sent mail {number} to {address}, {left} wait", flush=True)


main()
