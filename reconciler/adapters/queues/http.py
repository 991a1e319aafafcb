"""The `http` trigger: a number in what a server answers to GET."""

from reconciler.adapters.queues import opening
from reconciler.adapters.queues.answers import reading_of
from reconciler.adapters.queues.polling import PollingReader
from reconciler.adapters.queues.web import Web
from reconciler.model.metadata import Http
from reconciler.ports import QueueAsked


class _Driver:
    polling_seconds = 1.0

    def open(self, asked: QueueAsked) -> PollingReader:
        """Make a reader."""
        settings = opening.settings(asked, Http)
        web = Web(settings.url, settings)
        return PollingReader(lambda: reading_of(web.get(), settings.json_path, f"the answer of {web.what}"), web.close)


DRIVER = _Driver()
