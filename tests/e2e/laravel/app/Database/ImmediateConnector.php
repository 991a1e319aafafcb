<?php

namespace App\Database;

use Illuminate\Database\Connectors\SQLiteConnector;

/** Connects to SQLite so that transactions take the write lock when they begin, and wait for the disk only now and then. */
class ImmediateConnector extends SQLiteConnector
{
    public function connect(array $config)
    {
        $connection = parent::connect($config);
        $connection->exec("PRAGMA journal_mode = {$config['journal_mode']}");
        $connection->exec('PRAGMA synchronous = NORMAL');

        return $connection;
    }

    protected function createPdoConnection($dsn, $username, $password, $options)
    {
        return new ImmediatePdo($dsn, $username, $password, $options);
    }
}
