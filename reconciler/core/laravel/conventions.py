"""What the framework ships as `config/queue.php` and `config/database.php`, as far as queues need it.

For an application that has neither in a place that we know. One reader for this and for the application's own.
"""

from collections.abc import Mapping

from reconciler.core.laravel.phpfile import returned
from reconciler.core.laravel.phpvalues import Value

_QUEUE = b"""<?php
return [
    'default' => env('QUEUE_CONNECTION', env('QUEUE_DRIVER', 'sync')),
    'connections' => [
        'sync' => ['driver' => 'sync'],
        'database' => [
            'driver' => 'database',
            'connection' => env('DB_QUEUE_CONNECTION'),
            'table' => env('DB_QUEUE_TABLE', 'jobs'),
            'queue' => env('DB_QUEUE', 'default'),
            'retry_after' => env('DB_QUEUE_RETRY_AFTER', 90),
        ],
        'beanstalkd' => [
            'driver' => 'beanstalkd',
            'host' => env('BEANSTALKD_QUEUE_HOST', 'localhost'),
            'queue' => env('BEANSTALKD_QUEUE', 'default'),
        ],
        'redis' => [
            'driver' => 'redis',
            'connection' => env('REDIS_QUEUE_CONNECTION', 'default'),
            'queue' => env('REDIS_QUEUE', 'default'),
            'retry_after' => env('REDIS_QUEUE_RETRY_AFTER', 90),
        ],
    ],
];
"""
_SERVER = b"""
            'url' => env('DB_URL', env('DATABASE_URL')),
            'host' => env('DB_HOST', '127.0.0.1'),
            'port' => env('DB_PORT'),
            'database' => env('DB_DATABASE', 'laravel'),
            'username' => env('DB_USERNAME', 'root'),
            'password' => env('DB_PASSWORD', ''),
            'unix_socket' => env('DB_SOCKET', ''),
            'prefix' => env('DB_PREFIX', ''),
"""
_MYSQL_TLS = b"""
            'options' => array_filter([PDO::MYSQL_ATTR_SSL_CA => env('MYSQL_ATTR_SSL_CA')]),
"""
_DATABASE = b"""<?php
return [
    'default' => env('DB_CONNECTION', 'mysql'),
    'connections' => [
        'sqlite' => [
            'driver' => 'sqlite',
            'url' => env('DB_URL', env('DATABASE_URL')),
            'database' => env('DB_DATABASE', database_path('database.sqlite')),
            'prefix' => env('DB_PREFIX', ''),
        ],
        'mysql' => ['driver' => 'mysql',%(server)s%(tls)s],
        'mariadb' => ['driver' => 'mariadb',%(server)s%(tls)s],
        'pgsql' => ['driver' => 'pgsql', 'sslmode' => env('DB_SSLMODE', 'prefer'),%(server)s],
    ],
    'redis' => [
        'options' => ['prefix' => env('REDIS_PREFIX', Str::slug(env('APP_NAME', 'laravel'), '_').'_database_')],
        'default' => [
            'url' => env('REDIS_URL'),
            'host' => env('REDIS_HOST', '127.0.0.1'),
            'username' => env('REDIS_USERNAME'),
            'password' => env('REDIS_PASSWORD'),
            'port' => env('REDIS_PORT', '6379'),
            'database' => env('REDIS_DB', '0'),
        ],
    ],
];
""" % {b"server": _SERVER, b"tls": _MYSQL_TLS}


def queue(environment: Mapping[str, str], root: str) -> Value:
    """`config/queue.php`."""
    return returned(_QUEUE, root, environment)


def database(environment: Mapping[str, str], root: str) -> Value:
    """`config/database.php`."""
    return returned(_DATABASE, root, environment)
