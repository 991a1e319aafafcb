"""Takes one message from the queue, sends it, and exits: the shape of `queue:work --once`.

It is started when a message waits. Should somebody else have been quicker, it exits at once: there will be another.
"""

import time

import mail_queue

SENDING_SECONDS = 0.5


def main() -> None:
    """One message at most."""
    with mail_queue.opened() as queue:
        mail = mail_queue.take(queue)
        if mail is None:
            return
        number, address = mail
        time.sleep(SENDING_SECONDS)  # a mail server would take about as long
        mail_queue.done(queue, number)
        left = mail_queue.waiting(queue)
    print(f"sent mail {number} to {address}, {left} wait", flush=True)


main()
