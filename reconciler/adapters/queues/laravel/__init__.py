"""The `laravel` trigger: reads where the application keeps its queue, and counts there what its processes may take.

application.py   the application's files -> its configuration        (core/laravel reads them, without PHP)
reader.py        the configuration -> a reader, anew when a file changed
redislists.py, worktable.py   what is counted in redis and in a table; tubes are what beanstalkd.py counts
"""

from reconciler.adapters.queues import opening
from reconciler.adapters.queues.laravel.application import Application
from reconciler.adapters.queues.laravel.reader import LaravelReader
from reconciler.core.laravel.encryption import Tls
from reconciler.core.laravel.settings import Wanted
from reconciler.model.metadata import Laravel
from reconciler.ports import QueueAsked


class _Driver:
    polling_seconds = 0.2

    def open(self, asked: QueueAsked) -> LaravelReader:
        """Make a reader."""
        settings = opening.settings(asked, Laravel)
        wanted = Wanted(
            settings.connection,
            settings.url,
            settings.username,
            settings.password,
            settings.prefix,
            settings.table,
            settings.queues or (),
            settings.retry_after,
            Tls(settings.tls, settings.ca_file, settings.verify_tls),
        )
        application = Application(asked.working_dir, asked.environment, asked.credentials, settings.env_file)
        return LaravelReader(application, wanted, asked.count_at_most)


DRIVER = _Driver()
